"""The pictures a quantization sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploykit.base.artifact import Parent, portable_data_name
from deploykit.base.errors import BadInput
from deploykit.base.hashing import combined_sha256, value_sha256
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.config.quantize import QuantizeConfig
from deploykit.data import DataSource, Split, open_data, prepare, synthetic_images
from deploykit.evaluation.judging_images import calibration_indices, judging_images
from deploykit.evaluation.split_images import Pictures

DROP_IMAGES = 512
"""Of ``select``, for ``--max-drop``: one picture is then 0.2 points."""


@dataclass(frozen=True)
class Calibration:
    """The pictures of a quantization: those that are observed, and those that choices are made on.

    ``observed``: calibration pictures. ``chosen``: pictures of ``select``. ``judged``: what the result is judged on, where
    that is not ``chosen``. ``sha256``: of all of them.
    ``observed_sha256``: of the calibration pictures alone. ``labels``: of ``chosen``, int64 indices into ``classes``;
    None where they have none. ``classes``: names of the data's classes.
    """

    observed: Sequence[np.ndarray] | Any
    chosen: Sequence[np.ndarray]
    sha256: str
    name: str
    observed_sha256: str = ""
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    judged: Pictures | None = None

    def first(self, count: int) -> Sequence[np.ndarray] | Any:
        """The first images that are observed, read when asked for."""
        return _Picked(self.observed, list(range(min(count, len(self.observed)))))

    def batches(self, size: int, preprocessing: Preprocessing, first: int = 0) -> Iterator[np.ndarray]:
        """Prepared batches from picture ``first`` on, one after the other: memory does not grow with the pictures."""
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
        index = self.indices[index]
        return self.split.image(index) if isinstance(self.split, Split) else self.split[index]


@dataclass(frozen=True)
class Drawn:
    """Which pictures of opened data are meant.

    ``picked``: indices of ``train``, in order. ``held``: indices of ``select``. ``sha256``: of all of them.
    ``observed_sha256``: of those of ``train``.
    """

    picked: list[int]
    held: list[int]
    sha256: str
    observed_sha256: str


def draw(config: QuantizeConfig, source: DataSource) -> Drawn:
    """Draw from ``train`` what is observed, and from ``select`` what choices are made on, by the seed.

    Raises:
        BadInput: a split is empty.
    """
    train, select = source.split("train"), source.split("select")
    random = np.random.default_rng(config.seed)
    picked = calibration_indices(train, config.images, random)
    wanted = config.select_images if config.max_drop is None else max(config.select_images, DROP_IMAGES)
    held = select.chosen(wanted, "drawn", random).tolist()
    digest = combined_sha256([train.sha256, select.sha256, value_sha256([picked, held])])
    return Drawn(picked, held, digest, combined_sha256([train.sha256, value_sha256(picked)]))


def calibration_parent(config: QuantizeConfig, source: DataSource | None) -> Parent:
    """The pictures as a parent of what is quantized on them; ``source`` is None where they are synthetic."""
    if source is None:
        name, digest, _ = _synthetic(config)
        return Parent("data", digest, name=name)
    return Parent("data", draw(config, source).sha256, name=portable_data_name(str(config.data)))


def _size(config: QuantizeConfig) -> tuple[int, int]:
    return config.stated.size or (224, 224)


def _synthetic(config: QuantizeConfig) -> tuple[str, str, int]:
    """Name and hash of synthetic pictures, and how many are observed."""
    count = min(config.images, 64)
    name = f"synthetic pictures, seed {config.seed}"
    return name, value_sha256([name, count, list(_size(config))]), count


def calibration_pictures(config: QuantizeConfig, progress: Progress, source: DataSource | None = None) -> Calibration:
    """The pictures: of ``train`` to observe, of ``select`` to choose on; synthetic ones where no data are named.

    ``source``: the data, where they are open already.

    Raises:
        BadInput: the data cannot be read, a split is empty, or there are no labels to hold ``max_drop`` with.
    """
    if config.data is None:
        if config.max_drop is not None:
            raise BadInput("--max-drop needs labels", got="synthetic images", fix="Name data with --data.")
        progress.warn("calibrated on synthetic pictures: ranges of real pictures may differ")
        name, digest, count = _synthetic(config)
        images = synthetic_images(count + 32, _size(config), config.seed)
        return Calibration(list(images[:count]), list(images[count:]), digest, name, digest)
    source = source or open_data(
        config.data, allow_code=config.allow_code, skip_broken=config.skip_broken, progress=progress
    )
    if config.max_drop is not None:
        source.need_labels("--max-drop")
    train, select = source.split("train"), source.split("select")
    if len(train) < config.images:
        progress.say(f"calibrating on all {len(train)} training pictures ({config.images} were asked for)")
    drawn = draw(config, source)
    chosen, labels = [select.image(i) for i in drawn.held], select.labels[drawn.held] if select.labelled else None
    return Calibration(
        _Picked(train, drawn.picked),
        chosen,
        drawn.sha256,
        portable_data_name(str(config.data)),
        drawn.observed_sha256,
        labels,
        tuple(source.classes),
        judging_images(source, drawn.picked),
    )
