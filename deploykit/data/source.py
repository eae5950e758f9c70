"""A data source and its three splits: train, select (10 % of train, by image hash) and test.

Of images without labels test is select: nothing is scored on it that a choice was made on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Literal

import numpy as np

from deploykit.base.errors import BadInput, unknown
from deploykit.base.hashing import combined_sha256
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import SILENT, Progress
from deploykit.data.preprocess import finish, fit, prepare
from deploykit.data.splits import Order, draw, sample
from deploykit.data.stores import Part, Store

SPLITS = ("train", "select", "test")
SELECT_SHARE = 0.1
TEST_SHARE = 0.2
CHECKED_ALWAYS = 50_000
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_READERS = 2


class Split:
    """Pictures with labels, in a fixed order.

    ``name``: ``train``, ``select`` or ``test``. ``classes``: names in the order of the labels; empty where there are no
    labels. ``labels``: int64 ``[n]``; zeros where there are none.
    """

    def __init__(
        self,
        name: str,
        classes: tuple[str, ...],
        store: Store,
        indices: np.ndarray,
        labels: np.ndarray,
        progress: Progress = SILENT,
    ) -> None:
        self.name, self.classes, self.labels = name, classes, labels
        self._store, self._indices, self._progress = store, indices, progress

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def labelled(self) -> bool:
        """Whether its images have labels."""
        return bool(self.classes)

    def image(self, i: int) -> np.ndarray:
        """Picture ``i``: uint8 ``[H, W, 3]`` RGB.

        Raises:
            BadInput: it cannot be read.
        """
        return self._store.image(int(self._indices[i]))

    def file_name(self, i: int) -> str | None:
        """The path of picture ``i``, or None where it is no file of its own."""
        return self._store.file_name(int(self._indices[i]))

    @cached_property
    def sha256(self) -> str:
        """Over the hashes and labels of the split's pictures, in order."""
        return combined_sha256(
            f"{one.decode()}:{label}" for one, label in zip(self.hashes.tolist(), self.labels.tolist(), strict=True)
        )

    @property
    def hashes(self) -> np.ndarray:
        """``S64`` ``[n]``: hex sha256 of each image."""
        return self._store.hashes(self._progress)[self._indices]

    def chosen(
        self, limit: int | None = None, order: Order = "spread", seed: int | np.random.Generator = 0
    ) -> np.ndarray:
        """The images that are looked at, ``limit`` at most; see :func:`deploykit.data.splits.sample`. int64 indices."""
        return sample(len(self), limit, order, seed)

    def batches(
        self, batch: int, preprocessing: Preprocessing, *, limit: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The pictures in order, prepared; only two batches are in memory at a time.

        ``batch``: pictures at a time; the last batch may be smaller. ``limit``: number of pictures at most, as
        :meth:`chosen` chooses them. Yields x as :func:`deploykit.data.prepare` gives it, and int64 labels ``[N]``.

        Raises:
            BadInput: batch 0, or a picture that cannot be read.
        """
        if batch < 1:
            raise BadInput("batch", got=batch, expected="at least 1")
        chosen = self.chosen(limit)
        parts = [chosen[start : start + batch] for start in range(0, len(chosen), batch)]
        return self._stacked(parts, preprocessing) if self._one_size() else self._decoded(parts, preprocessing)

    def _one_size(self) -> bool:
        return len(self) > 0 and self._store.stack(self._indices[:1]) is not None

    def _stacked(
        self, parts: list[np.ndarray], preprocessing: Preprocessing
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for part in parts:
            pixels = self._store.stack(self._indices[part])
            assert pixels is not None
            yield prepare(pixels, preprocessing), self.labels[part]

    def _decoded(
        self, parts: list[np.ndarray], preprocessing: Preprocessing
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        def read(i: int) -> np.ndarray:
            return fit(self.image(i), preprocessing)

        with ThreadPoolExecutor(_READERS) as pool:
            try:
                ahead = [pool.submit(read, i) for i in parts[0].tolist()] if parts else []
                for number, part in enumerate(parts):
                    now, ahead = ahead, []
                    if number + 1 < len(parts):
                        ahead = [pool.submit(read, i) for i in parts[number + 1].tolist()]
                    pixels = np.stack([one.result() for one in now])
                    now = []
                    yield finish(pixels, preprocessing), self.labels[part]
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


class DataSource:
    """Data by name.

    ``name``: as it was given. ``classes``: names in the order of the labels; empty where there are none. ``natural_size``: height and width that
    all pictures have, where they are small and of one size; else None.

    Args:
        parts: ``train``, ``test`` and where declared ``select``; or ``pool``, from which the test split is chosen by
            picture hash. Each is loaded when first needed.
        mean: default normalization; its first value is that of all channels where there are not three.
        std: default normalization, in the same way.
        channels: of the images.
        disjoint: train and test cannot share pictures, so that nothing need be compared.
        published: the test split is a fixed public one: copies of its pictures are left out of train, with a warning,
            because the user cannot mend them.
    """

    def __init__(
        self,
        name: str,
        classes: tuple[str, ...],
        parts: Mapping[str, Callable[[], Part]],
        natural_size: tuple[int, int] | None = None,
        *,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        channels: int = 3,
        disjoint: bool = False,
        published: bool = False,
        progress: Progress = SILENT,
    ) -> None:
        self.name, self.classes, self.natural_size, self.channels = name, classes, natural_size, channels
        self._loaders, self._parts = dict(parts), {}  # type: dict[str, Callable[[], Part]], dict[str, Part]
        self._mean, self._std = mean, std
        self._disjoint, self._published, self._progress = disjoint or "pool" in parts, published, progress
        self._checked = self._disjoint
        self._copies: np.ndarray | None = None

    def preprocessing(self, size: tuple[int, int] | None = None, channels: int | None = None) -> Preprocessing:
        """The data's default preprocessing, for a network that is trained on it and takes ``channels``; None: the data's.

        Small images of one size are taken as they are (or resized to ``size``), and so is any image where height and
        width of ``size`` differ; else the shorter side is resized to 256/224 of ``size`` (default 224) and the image is
        cropped, as is usual for ImageNet.
        """
        size = size or self.natural_size or (224, 224)
        resize = None if self.natural_size is not None or size[0] != size[1] else round(size[0] * 256 / 224)
        channels = channels or self.channels
        mean, std = (own if len(own) == channels else own[:1] * channels for own in (self._mean, self._std))
        return Preprocessing(size, resize=resize, mean=mean, std=std)

    def split(self, name: Literal["train", "select", "test"]) -> Split:
        """Open one split.

        Raises:
            BadInput: no such split, it is empty, its pictures cannot be read, or train and test share pictures.
        """
        if name not in SPLITS:
            raise unknown("split", name, SPLITS)
        self._check_overlap(for_test=name == "test")
        part, keep = self._chosen(name)
        if not keep.any():
            raise BadInput(
                f"{self.name}: the split {name!r} is empty",
                got=f"{len(part.labels)} pictures in all",
                fix="Add pictures, or choose other data.",
            )
        indices = np.flatnonzero(keep)
        return Split(name, self.classes, part.store, indices, part.labels[indices], self._progress)

    def need_labels(self, doing: str) -> None:
        """Refuse data without labels for what needs them; ``doing``: a noun: ``training``.

        Raises:
            BadInput: there are none.
        """
        if not self.classes:
            raise BadInput(
                f"{self.name} has no labels, which {doing} needs",
                expected="class folders, a CSV file of path,label, or an .npz with labels",
                fix="Images without labels calibrate, verify and time.",
            )

    def _part(self, name: str) -> Part:
        if name not in self._parts:
            if name not in self._loaders:
                raise BadInput(f"{self.name} has no split {name!r}", expected="one of " + ", ".join(self._loaders))
            part = self._loaders[name]()
            _check_labels(self.name, name, part.labels, max(1, len(self.classes)))
            self._parts[name] = part
        return self._parts[name]

    def _chosen(self, name: str) -> tuple[Part, np.ndarray]:
        """The part a split lies in, and which of its pictures belong to it: bool ``[n]``."""
        if name == "test" and "pool" not in self._loaders:
            part = self._part("test")
            return part, np.ones(len(part.labels), dtype=bool)
        if name == "select" and "select" in self._loaders:
            part = self._part("select")
            return part, np.ones(len(part.labels), dtype=bool)
        if name == "test" and not self.classes:
            name = "select"
        part = self._part("pool" if "pool" in self._loaders else "train")
        hashes = part.store.hashes(self._progress)
        keep = np.ones(len(hashes), dtype=bool)
        if "pool" in self._loaders and self.classes:
            test = draw(hashes, "test", TEST_SHARE)
            if name == "test":
                return part, test
            keep = ~test
        if self._copies is not None:
            keep &= ~self._copies
        if "select" in self._loaders or not keep.any():
            return part, keep
        select = np.zeros(len(hashes), dtype=bool)
        select[keep] = draw(hashes[keep], "select", SELECT_SHARE)
        return part, select if name == "select" else keep & ~select

    def _check_overlap(self, *, for_test: bool) -> None:
        if self._checked or "train" not in self._loaders or "test" not in self._loaders:
            return
        train, test = self._part("train"), self._part("test")
        largest = max(len(train.labels), len(test.labels))
        if for_test and largest > CHECKED_ALWAYS and not (train.store.quick_hashes() and test.store.quick_hashes()):
            self._progress.say(
                f"{self.name}: whether train and test share pictures was not checked, it would read {largest:,} files; "
                "training checks it"
            )
            return
        parts = {"train": train, "test": test}
        if "select" in self._loaders:
            parts["select"] = self._part("select")
        hashes = {name: part.store.hashes(self._progress) for name, part in parts.items()}
        for one in ("train", "select"):
            if one in parts:
                self._compare(one, "test", parts, hashes)
        if "select" in parts:
            self._compare("train", "select", parts, hashes)
        self._checked = True

    def _compare(self, one: str, other: str, parts: Mapping[str, Part], hashes: Mapping[str, np.ndarray]) -> None:
        copies = np.isin(hashes[one], hashes[other])
        if not copies.any():
            return
        count = int(copies.sum())
        if self._published:
            self._progress.warn(
                f"{self.name}: {count} pictures of {one} are in {other} too; they are left out of {one}"
            )
            self._copies = copies
            return
        examples = []
        for i in np.flatnonzero(copies)[:3].tolist():
            j = int(np.flatnonzero(hashes[other] == hashes[one][i])[0])
            examples.append(f"{_named(parts[one].store, i)} = {_named(parts[other].store, j)}")
        raise BadInput(
            f"{self.name}: {count} pictures are in {one} and in {other}: "
            + ", ".join(examples)
            + (" …" if count > 3 else ""),
            expected="splits that share no picture, else the accuracy flatters",
            fix=f"Remove the copies from {one}.",
        )


def _check_labels(name: str, part: str, labels: np.ndarray, classes: int) -> None:
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        bad = int(np.flatnonzero((labels < 0) | (labels >= classes))[0])
        raise BadInput(f"{name}: label of picture {bad} in {part}", got=int(labels[bad]), expected=f"0…{classes - 1}")


def _named(store: Store, index: int) -> str:
    return store.file_name(index) or f"picture {index}"
