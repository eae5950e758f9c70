"""A ``.npz`` with ``images`` and ``labels``; large ones are memory-mapped where they were saved uncompressed."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from deploykit.base.errors import BadInput, from_os_error
from deploykit.data.classes import class_order
from deploykit.data.forms import Asked
from deploykit.data.source import DataSource
from deploykit.data.splits import split_of
from deploykit.data.stores import MOST, Array, Part

MOST_CHANNELS = 64  # more is no image: [n, C, H, W]
_LOCAL_HEADER = 30  # bytes of a zip entry's fixed local header (APPNOTE 4.3.7)


def open_npz(asked: Asked) -> DataSource:
    """Pictures in an array.

    The file holds ``images`` uint8 ``[n, H, W, C]``, or ``[n, H, W]`` of grey ones, and ``labels`` ``[n]`` (whole numbers, or names), and may hold
    ``classes`` (names) and ``split`` (train, val or select, test; per picture).

    Raises:
        BadInput: keys missing, wrong shape or dtype, objects inside, labels out of range.
    """
    path, name, progress = asked.path, asked.name, asked.progress
    found = _read(path)
    images, labels = found["images"], found["labels"]
    images = images[..., None] if images.ndim == 3 else images
    first = images.ndim == 4 and images.shape[1] in (1, 3, 4) and images.shape[3] not in (1, 3, 4)
    if (
        first
        or images.dtype != np.uint8
        or images.ndim != 4
        or 0 in images.shape[1:]
        or images.shape[-1] > MOST_CHANNELS
    ):
        raise BadInput(
            f"{path}: images",
            got=f"{images.dtype} {list(images.shape)}",
            expected="uint8 [n, H, W, C], or [n, H, W] of grey ones",
            fix="Put the channels last: images.transpose(0, 2, 3, 1)." if first else None,
        )
    if len(images) == 0:
        raise BadInput(f"{path} holds no pictures")
    if labels.ndim != 1 or len(labels) != len(images):
        raise BadInput(f"{path}: labels", got=list(labels.shape), expected=f"[{len(images)}], one for each picture")
    classes, numbers = _labels(path, labels, found.get("classes"))
    if len(classes) < 2:
        raise BadInput(f"{path} holds one class only", expected="at least two")
    split = found.get("split")
    if split is None:
        progress.say(f"{name}: no split inside, so a fifth of the pictures, chosen by their hash, is the test split")
        where = np.full(len(numbers), "pool")
    elif split.shape != labels.shape or split.dtype.kind not in "US":
        raise BadInput(f"{path}: split", got=f"{split.dtype} {list(split.shape)}", expected=f"text [{len(images)}]")
    else:
        where = split_of([_text(one) for one in split.tolist()], str(path))

    def part(which: str) -> Part:
        chosen = np.flatnonzero(where == which)
        one_run = len(chosen) > 0 and chosen[-1] - chosen[0] + 1 == len(chosen)
        rows = images[chosen[0] : chosen[-1] + 1] if one_run else images[chosen]  # a run stays a view of the file
        return Part(Array(rows), numbers[chosen])

    size = (int(images.shape[1]), int(images.shape[2]))
    half = (0.5, 0.5, 0.5)
    small = max(size) <= MOST
    parts = {which: (lambda which=which: part(which)) for which in dict.fromkeys(where.tolist())}
    channels = int(images.shape[-1])
    if small or channels != 3:
        known = size if small else None
        return DataSource(name, classes, parts, known, mean=half, std=half, channels=channels, progress=progress)
    return DataSource(name, classes, parts, progress=progress)


def _labels(path: Path, labels: np.ndarray, classes: np.ndarray | None) -> tuple[tuple[str, ...], np.ndarray]:
    names = None
    if classes is not None:
        if classes.ndim != 1 or classes.dtype.kind not in "USiu":
            raise BadInput(f"{path}: classes", got=f"{classes.dtype} {list(classes.shape)}", expected="text [C]")
        names = tuple(_text(one) for one in classes.tolist())
        if len(set(names)) != len(names):
            raise BadInput(f"{path}: classes hold a name twice")
    if labels.dtype.kind in "US":
        words = [_text(one) for one in labels.tolist()]
        names = names or class_order(words)
        place = {one: index for index, one in enumerate(names)}
        for i, one in enumerate(words):
            if one not in place:
                raise BadInput(f"{path}: unknown label of picture {i}", got=repr(one), expected="one of its classes")
        return names, np.array([place[one] for one in words], dtype=np.int64)
    if labels.dtype.kind not in "iu":
        raise BadInput(f"{path}: labels", got=labels.dtype, expected="whole numbers or text")
    numbers = labels.astype(np.int64)
    if numbers.size and numbers.min() < 0:
        i = int(np.flatnonzero(numbers < 0)[0])
        raise BadInput(
            f"{path}: label of picture {i}",
            got=int(numbers[i]),
            expected=f"0…{len(names) - 1}" if names else "0 or more",
            fix="Leave out pictures without a label.",
        )
    names = names or tuple(str(index) for index in range(int(numbers.max()) + 1))
    wrong = (numbers < 0) | (numbers >= len(names))
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise BadInput(f"{path}: label of picture {i}", got=int(numbers[i]), expected=f"0…{len(names) - 1}")
    return names, numbers


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _read(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    try:
        path.open("rb").close()
        if not zipfile.is_zipfile(path):
            raise BadInput(f"{path} is no .npz archive, or a truncated one", fix="np.savez(path, images=…, labels=…)")
        with np.load(path, allow_pickle=False) as archive:
            for key in ("images", "labels"):
                if key not in archive.files:
                    raise BadInput(f"{path} lacks {key!r}", got=", ".join(archive.files), expected="images and labels")
            for key in ("labels", "classes", "split"):
                if key in archive.files:
                    found[key] = archive[key]
            mapped = _mapped(path, "images.npy")
            found["images"] = archive["images"] if mapped is None else mapped
    except OSError as error:
        raise from_os_error(error, f"cannot read {path}") from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, struct.error) as error:
        why = "it holds pickled objects" if "allow_pickle" in str(error) else str(error)
        raise BadInput(
            f"{path} cannot be read: {why}", fix="Save plain arrays: np.savez(path, images=…, labels=…)."
        ) from error
    return found


def _mapped(path: Path, member: str) -> np.ndarray | None:
    """A memory map of an array in an uncompressed archive; None where it is compressed or stored otherwise."""
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(member)
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            return None
        with path.open("rb") as file:
            file.seek(entry.header_offset)
            head = file.read(_LOCAL_HEADER)
            name_bytes, extra_bytes = struct.unpack("<HH", head[26:30])
            start = entry.header_offset + _LOCAL_HEADER + name_bytes + extra_bytes
            file.seek(start)
            version = np.lib.format.read_magic(file)
            readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in readers:
                return None
            shape, fortran, dtype = readers[version](file)
            if fortran or dtype.hasobject or 0 in shape:
                return None
            offset = file.tell()
        if offset - start + int(np.prod(shape)) * dtype.itemsize != entry.file_size:
            raise BadInput(f"{path} is truncated", fix="Save it again.")
        return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
