"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) from the unpacked archive: the binary version, else the pickled one."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.base.errors import BadInput, from_os_error
from deploykit.data.forms import Asked
from deploykit.data.source import DataSource
from deploykit.data.stores import Array, Part

_PIXELS = 3 * 32 * 32
_FILES: dict[str, dict[str, Any]] = {
    "cifar10": {
        "binary": "cifar-10-batches-bin",
        "pickled": "cifar-10-batches-py",
        "bin": {"train": [f"data_batch_{n}.bin" for n in range(1, 6)], "test": ["test_batch.bin"]},
        "py": {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]},
        "names": "batches.meta.txt",
        "meta": ("batches.meta", b"label_names"),
        "labels": b"labels",
        "bytes_before": 1,
        "classes": 10,
    },
    "cifar100": {
        "binary": "cifar-100-binary",
        "pickled": "cifar-100-python",
        "bin": {"train": ["train.bin"], "test": ["test.bin"]},
        "py": {"train": ["train"], "test": ["test"]},
        "names": "fine_label_names.txt",
        "meta": ("meta", b"fine_label_names"),
        "labels": b"fine_labels",
        "bytes_before": 2,
        "classes": 100,
    },
}


def open_cifar10(asked: Asked) -> DataSource:
    """CIFAR-10; see :func:`open_cifar`."""
    return open_cifar(asked, "cifar10")


def open_cifar100(asked: Asked) -> DataSource:
    """CIFAR-100 with its fine labels; see :func:`open_cifar`."""
    return open_cifar(asked, "cifar100")


def open_cifar(asked: Asked, kind: str) -> DataSource:
    """CIFAR in the folder that is named, or in the archive's folder below it.

    Raises:
        BadInput: neither version is there, or files are truncated or foreign.
    """
    root, name, progress = asked.path, asked.name, asked.progress
    layout = _FILES[kind]
    binary = _found(root, layout["binary"], layout["bin"]["test"][0])
    if binary is not None:
        classes = _names(binary / layout["names"], layout["classes"])
        parts = {
            split: (lambda files=files: _read_binary([binary / one for one in files], layout["bytes_before"]))
            for split, files in layout["bin"].items()
        }
    else:
        pickled = _found(root, layout["pickled"], layout["py"]["test"][0])
        if pickled is None:
            raise BadInput(
                f"{name}: no {kind} in {root}",
                expected=f"{layout['binary']}/ or {layout['pickled']}/",
                fix=f"Unpack the archive (binary version) of https://www.cs.toronto.edu/~kriz/cifar.html in {root}.",
            )
        progress.say(f"{name}: only the pickled version is there; it is read without running anything it holds")
        file, key = layout["meta"]
        meta = _read_pickle(pickled / file).get(key)
        if not isinstance(meta, list) or len(meta) != layout["classes"]:
            raise BadInput(f"{pickled / file} holds no class names", expected=f"{layout['classes']} {key.decode()}")
        classes = tuple(one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in meta)
        parts = {
            split: (lambda files=files: _read_pickled([pickled / one for one in files], layout["labels"]))
            for split, files in layout["py"].items()
        }
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    return DataSource(name, classes, parts, (32, 32), mean=mean, std=std, published=True, progress=progress)


def _found(root: Path, folder: str, file: str) -> Path | None:
    return next((place for place in (root, root / folder) if (place / file).is_file()), None)


def _names(path: Path, count: int) -> tuple[str, ...]:
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError):
        return tuple(str(index) for index in range(count))
    return names if len(names) == count else tuple(str(index) for index in range(count))


def _read_binary(files: list[Path], bytes_before: int) -> Part:
    """Records of label bytes (the last is the fine label) and 3,072 bytes of channels, memory-mapped where one file."""
    records = []
    for path in files:
        try:
            flat = np.memmap(path, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise BadInput(f"cannot read {path}: {error}", fix="Unpack the archive again.") from error
        if len(flat) % (bytes_before + _PIXELS):
            raise BadInput(
                f"{path} is truncated or foreign",
                got=f"{len(flat)} bytes",
                expected=f"a multiple of {bytes_before + _PIXELS}",
                fix="Unpack the archive again.",
            )
        records.append(flat.reshape(-1, bytes_before + _PIXELS))
    table = records[0] if len(records) == 1 else np.concatenate(records)
    pixels = table[:, bytes_before:].reshape(-1, 3, 32, 32)
    return Part(Array(pixels, channels_first=True), table[:, bytes_before - 1].astype(np.int64))


def _read_pickled(files: list[Path], key: bytes) -> Part:
    pixels, labels = [], []
    for path in files:
        batch = _read_pickle(path)
        data, numbers = batch.get(b"data"), batch.get(key)
        if (
            not isinstance(data, np.ndarray)
            or data.dtype != np.uint8
            or data.ndim != 2
            or data.shape[1] != _PIXELS
            or not isinstance(numbers, list)
            or len(numbers) != len(data)
            or not all(isinstance(one, int) for one in numbers)
        ):
            raise BadInput(
                f"{path} is no CIFAR batch", expected=f"data uint8 [n, {_PIXELS}] and as many {key.decode()}"
            )
        pixels.append(data)
        labels += numbers
    table = np.concatenate(pixels).reshape(-1, 3, 32, 32)
    return Part(Array(table, channels_first=True), np.array(labels, dtype=np.int64))


class _Plain(pickle.Unpickler):
    """Rebuilds numpy arrays and plain values; every other name in the pickle is refused before anything is called."""

    def find_class(self, module: str, name: str) -> Any:
        """The few names a pickled numpy array needs."""
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.empty(0).__reduce__()[0]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return _encode
        raise pickle.UnpicklingError(f"it holds {module}.{name}")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


def _read_pickle(path: Path) -> dict[bytes, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise from_os_error(error, f"cannot read {path}") from error
    try:
        found = _Plain(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a foreign byte stream can make the unpickler raise almost anything
        raise BadInput(
            f"{path} cannot be read safely: {error}", fix="Use the binary version of the archive."
        ) from error
    if not isinstance(found, dict):
        raise BadInput(f"{path} is no CIFAR file", got=type(found).__name__, expected="a dictionary")
    return {key.encode() if isinstance(key, str) else key: value for key, value in found.items()}
