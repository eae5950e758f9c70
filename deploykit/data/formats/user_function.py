"""``module:function``: the user's own function that returns a torch Dataset of (image, label) for a split."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from typing import Any

import numpy as np

from deploykit.base.errors import BadInput
from deploykit.base.hashing import array_sha256
from deploykit.base.progress import SILENT, Progress
from deploykit.data.forms import Asked
from deploykit.data.images import pixels_of
from deploykit.data.source import DataSource
from deploykit.data.stores import Part


def open_function(asked: Asked) -> DataSource:
    """Call ``function(split)`` for ``train`` and ``test`` when they are needed; ``select`` is drawn from ``train``.

    The datasets hold pictures as Pillow images, uint8 arrays ``[H, W, 3]`` or ``[H, W]``, or tensors ``[3, H, W]`` of
    uint8 or of floats in [0, 1]; they must not augment at random. Class names are the dataset's ``classes`` where it
    has any. The labels are learnt by reading the dataset through once, unless it has ``targets``.

    Raises:
        BadInput: not allowed, cannot be imported, or returns something else.
    """
    name, progress = asked.name, asked.progress
    if not asked.allow_code:
        raise BadInput(
            f"{name} would run code",
            expected="a name given on the command line, or --allow-code",
            fix="Pass --allow-code if you trust it.",
        )
    function = _function(name)
    datasets = {"test": _dataset(function, name, "test")}

    def part(split: str) -> Part:
        if split not in datasets:
            datasets[split] = _dataset(function, name, split)
        store = DatasetStore(datasets[split], f"{name}({split!r})", progress)
        return Part(store, store.labels())

    first = getattr(datasets["test"], "classes", None)
    parts = {split: (lambda split=split: part(split)) for split in ("train", "test")}
    if isinstance(first, list | tuple) and len(first) >= 2:
        classes = tuple(str(one) for one in first)
    else:
        loaded = {split: part(split) for split in parts}
        parts = {split: (lambda split=split: loaded[split]) for split in parts}
        highest = max(int(one.labels.max()) for one in loaded.values())
        if highest < 1:
            raise BadInput(f"{name} holds one class only", expected="at least two")
        classes = tuple(str(index) for index in range(highest + 1))
    return DataSource(name, classes, parts, progress=progress)


class DatasetStore:
    """A map-style dataset of (image, label). One picture is asked for at a time: datasets are rarely thread-safe."""

    def __init__(self, dataset: Any, title: str, progress: Progress) -> None:
        self.dataset, self.title, self.progress = dataset, title, progress
        self._lock = threading.Lock()
        self._hashes: np.ndarray | None = None
        self._labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def image(self, index: int) -> np.ndarray:
        """uint8 ``[H, W, 3]``."""
        return as_pixels(self._item(index)[0], f"{self.title}[{index}]")

    def stack(self, indices: np.ndarray) -> np.ndarray | None:
        """Sizes are not known ahead."""
        return None

    def file_name(self, index: int) -> str | None:
        """None: the dataset does not say."""
        return None

    def hashes(self, progress: Progress = SILENT) -> np.ndarray:
        """Of the pixels; reads the dataset through once."""
        if self._hashes is None:
            self._read_through()
        assert self._hashes is not None
        return self._hashes

    def quick_hashes(self) -> bool:
        """Whether it was read through already."""
        return self._hashes is not None

    def labels(self) -> np.ndarray:
        """int64 ``[n]``."""
        targets = getattr(self.dataset, "targets", None)
        if targets is not None and len(targets) == len(self):
            return np.array(
                [_label(one, f"{self.title}.targets[{i}]") for i, one in enumerate(targets)], dtype=np.int64
            )
        if self._labels is None:
            self._read_through()
        assert self._labels is not None
        return self._labels

    def _item(self, index: int) -> tuple[Any, Any]:
        with self._lock:
            try:
                item = self.dataset[index]
            except Exception as error:  # the user's code may raise anything
                raise BadInput(f"{self.title}[{index}] failed: {type(error).__name__}: {error}") from error
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise BadInput(f"{self.title}[{index}]", got=_kind(item), expected="(image, label)")
        return item[0], item[1]

    def _read_through(self) -> None:
        hashes, labels = [], []
        with self.progress.task("read the dataset", len(self), "pictures") as task:
            for index in range(len(self)):
                image, label = self._item(index)
                hashes.append(array_sha256(as_pixels(image, f"{self.title}[{index}]")))
                labels.append(_label(label, f"{self.title}[{index}]"))
                task.advance()
        self._hashes, self._labels = np.array(hashes, dtype="S64"), np.array(labels, dtype=np.int64)


def as_pixels(image: Any, where: str) -> np.ndarray:
    """A picture as a dataset gives it → uint8 ``[H, W, 3]``.

    Raises:
        BadInput: none of the forms known; floats outside [0, 1] among them.
    """
    from PIL.Image import Image

    if isinstance(image, Image):
        return pixels_of(image)
    tensor = hasattr(image, "detach")
    values = image.detach().cpu().numpy() if tensor else image
    if not isinstance(values, np.ndarray):
        raise BadInput(f"{where}: image", got=_kind(image), expected="a Pillow image, uint8 array or tensor [3, H, W]")
    if tensor and values.ndim == 3:
        values = values.transpose(1, 2, 0)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or values.min(initial=0) < 0 or values.max(initial=0) > 1:
            raise BadInput(
                f"{where}: image", got="floats outside [0, 1]", expected="[0, 1], not normalised: deploykit does that"
            )
        values = np.rint(values * 255).astype(np.uint8)
    if values.ndim == 2:
        values = values[..., None]
    if values.dtype != np.uint8 or values.ndim != 3 or 0 in values.shape:
        raise BadInput(f"{where}: image", got=f"{values.dtype} {list(values.shape)}", expected="uint8 [H, W, C]")
    return np.ascontiguousarray(values)


def _label(label: Any, where: str) -> int:
    try:
        value = label.item() if hasattr(label, "item") else label
    except (ValueError, RuntimeError, TypeError):  # more than one value: multi-label
        value = None
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadInput(f"{where}: label", got=_kind(label), expected="one whole number")
    return value


def _kind(value: Any) -> str:
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, tuple | list) else type(value).__name__


def _function(name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's module may raise anything
        raise BadInput(f"cannot import {module_name}: {type(error).__name__}: {error}", fix="Check --data.") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise BadInput(f"{module_name} has no function {attribute!r}", fix="Check --data.")
    return function


def _dataset(function: Any, name: str, split: str) -> Any:
    try:
        dataset = function(split)
    except Exception as error:  # the user's function may raise anything
        raise BadInput(f"{name}({split!r}) failed: {type(error).__name__}: {error}") from error
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__") or isinstance(dataset, str | dict):
        raise BadInput(f"{name}({split!r})", got=_kind(dataset), expected="a torch Dataset of (image, label)")
    if len(dataset) == 0:
        raise BadInput(f"{name}({split!r}) is empty")
    return dataset
