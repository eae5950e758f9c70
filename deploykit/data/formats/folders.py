"""A folder of class folders (ImageFolder)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from deploykit.base.errors import BadInput, from_os_error
from deploykit.base.progress import Progress
from deploykit.data.forms import Asked
from deploykit.data.images import SUFFIXES
from deploykit.data.source import DataSource
from deploykit.data.stores import Files, Part, natural_size, readable

_VALIDATION = ("val", "valid", "validation")


def open_folder(asked: Asked) -> DataSource:
    """An ImageFolder: ``CLASS/…/picture``, or ``train/`` and ``val/`` (or ``test/``) with such folders below.

    Raises:
        BadInput: missing, no class folders, one class only, or no pictures.
    """
    root, name, progress = asked.path, asked.name, asked.progress
    if not root.is_dir():
        raise BadInput(
            f"{root} is no folder" if root.exists() else f"the data folder {root} does not exist", fix="Check --data."
        )
    places = {"train": root / "train"} if (root / "train").is_dir() else {}
    if places:
        val = next((root / one for one in _VALIDATION if (root / one).is_dir()), None)
        test = root / "test" if (root / "test").is_dir() else None
        if val and test:
            places |= {"select": val, "test": test}
        elif val or test:
            places["test"] = val or test  # type: ignore[assignment]
        elif len(subfolders(root)) == 1:
            root, places = root / "train", {}
        else:
            places = {}
    if places:
        shares = ", ".join(f"{split} from {place.name}/" for split, place in places.items())
        progress.say(f"{name}: {shares}")
    else:
        places = {"pool": root}
        progress.say(
            f"{name}: no val/ or test/ folder, so a fifth of the pictures, chosen by their hash, is the test split"
        )
    return source_of(asked, places)


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
    if not classes:
        loose = any(True for _ in _walk(first))
        raise BadInput(
            f"{first} holds no class folders",
            got="pictures without class folders" if loose else "no pictures",
            expected=f"{first}/CLASS/picture.jpg",
        )
    if len(classes) < 2:
        raise BadInput(f"{first} holds one class only", got=classes[0], expected="at least two class folders")

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
            if one.lower().endswith(SUFFIXES) and not one.startswith("."):
                yield os.path.join(place, one)
