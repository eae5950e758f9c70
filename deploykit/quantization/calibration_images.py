"""The pictures a quantization sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploykit.base.artifact import portable_data_name
from deploykit.base.progress import Progress
from deploykit.config.quantize import QuantizeConfig

if TYPE_CHECKING:
    import numpy as np

    from deploykit.base.preprocessing import Preprocessing

DROP_IMAGES = 512
"""Of ``select``, for ``--max-drop``: one picture is then 0.2 points."""


@dataclass(frozen=True)
class Calibration:
    """The pictures of a quantization: those that are observed, and those that choices are made on.

    Attributes:
        observed: calibration pictures.
        chosen: pictures of ``select``.
        sha256: of all of them.
        name: of the data.
        observed_sha256: of the calibration pictures alone.
        labels: of ``chosen``, int64 indices into ``classes``; None where they are synthetic.
        classes: names of the data's classes.
    """

    observed: Sequence[np.ndarray] | Any
    chosen: Sequence[np.ndarray]
    sha256: str
    name: str
    observed_sha256: str = ""
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    def batches(self, size: int, preprocessing: Preprocessing, first: int = 0) -> Iterator[np.ndarray]:
        """Prepared batches from picture ``first`` on, one after the other: memory does not grow with the pictures."""
        from deploykit.data import prepare

        for start in range(first, len(self.observed), size):
            yield prepare(
                [self.observed[i] for i in range(start, min(start + size, len(self.observed)))], preprocessing
            )


class _Picked:
    """Some pictures of a split, read when asked for."""

    def __init__(self, split: Any, indices: list[int]) -> None:
        self.split, self.indices = split, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> np.ndarray:
        image: np.ndarray = self.split.image(self.indices[index])
        return image


def calibration_pictures(config: QuantizeConfig, progress: Progress) -> Calibration:
    """Draw the pictures: from ``train`` to observe, from ``select`` to choose on.

    Raises:
        BadInput: the data cannot be read, or a split is empty.
    """
    import numpy as np

    from deploykit.base.hashing import combined_sha256, value_sha256
    from deploykit.data import open_data, synthetic_images

    if config.data is None:
        size = (config.size or 224,) * 2
        progress.warn("calibrated on synthetic pictures: ranges of real pictures may differ")
        count = min(config.images, 64)
        images = synthetic_images(count + 32, size, config.seed)
        name = f"synthetic pictures, seed {config.seed}"
        digest = value_sha256([name, count, list(size)])
        return Calibration(list(images[:count]), list(images[count:]), digest, name, digest)
    source = open_data(config.data, allow_code=config.allow_code, skip_broken=config.skip_broken, progress=progress)
    train, select = source.split("train"), source.split("select")
    random = np.random.default_rng(config.seed)
    if len(train) < config.images:
        progress.say(f"calibrating on all {len(train)} training pictures ({config.images} were asked for)")
    picked = sorted(random.permutation(len(train))[: config.images].tolist())
    wanted = config.select_images if config.max_drop is None else max(config.select_images, DROP_IMAGES)
    held = random.permutation(len(select))[:wanted].tolist()
    digest = combined_sha256([train.sha256, select.sha256, value_sha256([picked, held])])
    seen = combined_sha256([train.sha256, value_sha256(picked)])
    chosen, labels = [select.image(i) for i in held], select.labels[held]
    return Calibration(
        _Picked(train, picked), chosen, digest, portable_data_name(config.data), seen, labels, tuple(source.classes)
    )
