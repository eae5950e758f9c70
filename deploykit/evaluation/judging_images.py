"""The images an engine is judged on: what no calibration saw, the same ones in every command, no labels needed.

``train`` in order of hash without the images of the calibration, then ``select``; up to the last of ``LOOKS``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from deploykit.base.artifact import read_manifest
from deploykit.base.errors import BadInput
from deploykit.base.progress import Progress
from deploykit.base.runner import Runner
from deploykit.base.spec import Spec
from deploykit.evaluation.split_images import Pictures, pictures_for, samples_of

if TYPE_CHECKING:
    from deploykit.config.verify import VerifyConfig
    from deploykit.data import DataSource, Split

LOOKS = (128, 256, 512, 1024)
"""After how many images it is asked whether more are needed."""


class _Lazy(Sequence[np.ndarray]):
    """Images of one or two splits, read when asked for."""

    def __init__(self, places: list[tuple[Split, int]]) -> None:
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (split.image(index) for split, index in self.places)

    @overload
    def __getitem__(self, at: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, at: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(at, slice):
            return _Lazy(self.places[at])
        split, index = self.places[at]
        return split.image(index)


def judging_images(source: DataSource, calibrated: Collection[int] = (), limit: int = LOOKS[-1]) -> Pictures:
    """The images of opened data.

    Args:
        source: the data.
        calibrated: indices of ``train`` that a calibration saw, as :func:`calibration_indices` tells them.
        limit: number of images at most.

    Raises:
        BadInput: a split is empty.
    """
    train, select = source.split("train"), source.split("select")
    seen = set(calibrated)
    places = [(train, i) for i in _by_hash(train) if i not in seen]
    used = [name for name, has in (("train", bool(places)), ("select", len(places) < limit)) if has]
    places = [*places, *((select, i) for i in _by_hash(select))][:limit]
    names = tuple(None if (name := split.file_name(i)) is None else Path(name).name for split, i in places)
    return Pictures(_Lazy(places), "data", names, " and ".join(used))


def calibration_indices(train: Split, images: int, seed: int | np.random.Generator) -> list[int]:
    """Which images of ``train`` a calibration sees: drawn by its seed, in the order of the split."""
    return train.chosen(images, "drawn-sorted", seed).tolist()


def calibrated_by(path: Path, train: Split) -> set[int]:
    """Which images of ``train`` were seen when ``path``, or a file that it was made from, was calibrated.

    By the manifests, as far as these and their files are there. Where that was on other data, as many are left out.
    """
    seen: set[int] = set()
    for _ in range(8):
        manifest = read_manifest(path)
        if manifest is None:
            break
        if (
            manifest.precision != "fp32"
            and manifest.config.get("data")
            and isinstance(manifest.config.get("images"), int)
        ):
            seen |= set(calibration_indices(train, manifest.config["images"], int(manifest.config.get("seed", 0))))
        parent = next((one.path for one in manifest.parents if one.role == "model" and one.path), None)
        if parent is None or not (path.parent / parent).is_file():
            break
        path = path.parent / parent
    return seen


def _by_hash(split: Split) -> list[int]:
    return np.argsort(split.hashes, kind="stable").tolist()


def on_random_input(specs: tuple[Spec, Spec], runners: tuple[Runner, Runner], config: VerifyConfig) -> bool:
    """Whether two open artifacts are compared on random input: no data and no samples, and not both are of images and answers.

    Raises:
        BadInput: real images are asked for, or a layer is looked for, and these are no networks of images.
    """
    if config.data is not None:
        if config.shapes:
            raise BadInput("--shape is of random input", got="--data too", fix="Leave one of them away.")
        return False
    images = any(one.preprocessing is not None for one in runners) and all(
        len(one.inputs) == 1 and len(one.inputs[0].shape) == 4 and one.task != "none" for one in runners
    )
    if not config.shapes and (images or any(samples_of(one.path) is not None for one in specs)):
        return False
    if config.require_real or config.bisect:
        asked = "--require-real" if config.require_real else "--bisect"
        raise BadInput(f"{asked} needs images, and these are compared on random input", fix="Name images with --data.")
    return True


def pictures_of_pair(
    specs: tuple[Spec, Spec], runners: tuple[Runner, Runner], config: VerifyConfig, progress: Progress
) -> Pictures:
    """The pictures that two open artifacts are compared on: of the data, else the samples of either, else synthetic.

    Of data without a split named they are those of :func:`judging_images`.

    Raises:
        BadInput: neither says its input size, or there are no such pictures.
    """
    known = [runner.preprocessing for runner in runners if runner.preprocessing is not None]
    if not known:
        raise BadInput("neither artifact says its input size", fix="Name it with --size.")
    samples = None
    if config.data is None:
        samples = next((found for spec in specs if (found := samples_of(spec.path)) is not None), None)
    if config.data is not None and config.split is None:
        from deploykit.data import open_data

        source = open_data(config.data, allow_code=config.allow_code, progress=progress)
        return judging_images(source, calibrated_by(specs[1].path, source.split("train")), config.images)
    return pictures_for(
        data=config.data,
        samples=samples,
        size=known[0].size,
        channels=known[0].channels,
        limit=config.images,
        seed=config.seed,
        require_real=config.require_real,
        split=config.split or "test",
        allow_code=config.allow_code,
        progress=progress,
    )
