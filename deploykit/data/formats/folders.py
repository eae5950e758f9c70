"""A folder of class folders (ImageFolder)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from deploykit.base.errors import BadInput, from_os_error
from deploykit.base.progress import Progress
from deploykit.data.formats.image_list import unlabelled
from deploykit.data.forms import Asked
from deploykit.data.images import SUFFIXES
from deploykit.data.source import DataSource
from deploykit.data.stores import Files, Part, natural_size, readable

_VALIDATION = ("val", "valid", "validation")


def open_folder(asked: Asked) -> DataSource:
    """An ImageFolder: ``CLASS/…/image``, or ``train/`` and ``val/`` (or ``test/``) with such folders below.

    Folders with images of their own instead, and fewer than two folders of images below, hold images without labels.

    Raises:
        BadInput: missing, or no images.
    """
    root, name, progress = asked.path, asked.name, asked.progress
    if not root.is_dir():
        raise BadInput(
            f"{root} is no folder" if root.exists() else f"the data folder {root} does not exist", fix="Check --data."
        )
    places = _declared(root)
    if not places and (root / "train").is_dir() and len(subfolders(root)) == 1:
        root = root / "train"
    first = next(iter(places.values()), root)
    loose, below = _loose(first), subfolders(first)
    if len(below) < 2 or (loose and sum(_holds_images(first / one) for one in below) < 2):
        places = places or {"pool": root}
        found = {split: pictures_below(place) for split, place in places.items()}
        if (empty := next((places[split] for split, paths in found.items() if not paths), None)) is not None:
            raise BadInput(f"{empty} holds no images", expected="files " + ", ".join(SUFFIXES))
        return unlabelled(asked, found)
    if loose:
        progress.warn(f"{name}: {loose} images beside the class folders of {first.name}/ are left out")
    if places:
        shares = ", ".join(f"{split} from {place.name}/" for split, place in places.items())
        progress.say(f"{name}: {shares}")
    else:
        places = {"pool": root}
        progress.say(
            f"{name}: no val/ or test/ folder, so a fifth of the pictures, chosen by their hash, is the test split"
        )
    return source_of(asked, places)


def _declared(root: Path) -> dict[str, Path]:
    """The folders of splits below ``root``, the one of train first; empty where none is declared."""
    if not (root / "train").is_dir():
        return {}
    val = next((root / one for one in _VALIDATION if (root / one).is_dir()), None)
    test = root / "test" if (root / "test").is_dir() else None
    if val and test:
        return {"train": root / "train", "select": val, "test": test}
    return {"train": root / "train", "test": val or test} if val or test else {}  # type: ignore[dict-item]


def _holds_images(folder: Path) -> bool:
    return next(_walk(folder), None) is not None


def _loose(folder: Path) -> int:
    """Number of images in a folder itself."""
    with os.scandir(folder) as entries:
        return sum(_is_image(entry.name) and entry.is_file() for entry in entries)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def pictures_below(folder: Path) -> list[str]:
    """All picture files below a folder, sorted; hidden ones are left out.

    Raises:
        BadInput: the folder cannot be read.
    """
    return sorted(_walk(folder))


def source_of(asked: Asked, places: dict[str, Path], *, published: bool = False, natural: bool = True) -> DataSource:
    """Class folders as data.

    ``asked``: the name, and what to do about pictures that cannot be read. ``places``: split → its folder of class
    folders; ``pool``: the test split is chosen from it. ``natural``: pictures may be small and of one size, which is
    looked at.

    Raises:
        BadInput: no class folders, one class only, or no pictures.
    """
    progress = asked.progress
    first = next(iter(places.values()))
    classes = tuple(subfolders(first))
    if len(classes) < 2:
        raise BadInput(
            f"{first} holds {'one class only' if classes else 'no class folders'}",
            got=", ".join(classes) or None,
            expected="at least two class folders",
        )
    if next(_walk(first), None) is None:
        raise BadInput(f"{first} holds no pictures", expected="files " + ", ".join(SUFFIXES))

    def loader(place: Path) -> Callable[[], Part]:
        return lambda: _listed(place, classes, first, asked.skip_broken, progress)

    firsts = (next(_walk(first / one), None) for one in classes[:32]) if natural else ()
    size = natural_size([one for one in firsts if one is not None])
    parts = {split: loader(place) for split, place in places.items()}
    return DataSource(asked.name, classes, parts, size, published=published, progress=progress)


def _listed(place: Path, classes: tuple[str, ...], first: Path, skip_broken: bool, progress: Progress) -> Part:
    paths: list[str] = []
    labels: list[int] = []
    known = {one: index for index, one in enumerate(classes)}
    for folder in subfolders(place):
        if folder not in known:
            raise BadInput(
                f"{place / folder} is a class that {first} does not have", fix="Remove or rename the folder."
            )
        found = pictures_below(place / folder)
        if not found and place == first:
            raise BadInput(
                f"the class folder {place / folder} holds no pictures", expected="files " + ", ".join(SUFFIXES)
            )
        paths += found
        labels += [known[folder]] * len(found)
    if not paths:
        raise BadInput(f"{place} holds no pictures", expected="files " + ", ".join(SUFFIXES))
    return readable(Part(Files(paths), np.array(labels, dtype=np.int64)), skip_broken, progress)


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones are left out.

    Raises:
        BadInput: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise from_os_error(error, f"cannot read {folder}") from error


def _walk(folder: Path) -> Iterator[str]:
    def stop(error: OSError) -> None:
        raise from_os_error(error, f"cannot read {folder}") from error

    for place, folders, names in os.walk(folder, onerror=stop):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for one in names:
            if _is_image(one):
                yield os.path.join(place, one)
