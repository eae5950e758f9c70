"""Images without labels: those below a folder, or those that a text file names, one path a line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from deploykit.base.errors import BadInput, from_os_error
from deploykit.data.forms import Asked
from deploykit.data.source import DataSource
from deploykit.data.stores import Files, Part, natural_size, readable


def open_list(asked: Asked) -> DataSource:
    """Images named in a text file, one path a line; empty lines do not count.

    Relative paths are looked up beside the file and must stay below its folder; absolute ones are taken as they stand.

    Raises:
        BadInput: no text, no lines, files that do not exist, a path that leads out of the folder.
    """
    path = asked.path
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise from_os_error(error, f"cannot read {path}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no list of images in UTF-8: {error}", expected="one path a line") from error
    named = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not named:
        raise BadInput(f"{path} names no images", expected="one path a line")
    places = [(number, beside(path, line, f"{path}, line {number}")) for number, line in named]
    missing = [f"{place} (line {number})" for number, place in places if not os.path.isfile(place)]
    if missing:
        shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise BadInput(
            f"{path}: {len(missing)} of {len(places)} images do not exist: {shown}", expected="one path a line"
        )
    return unlabelled(asked, {"pool": list(dict.fromkeys(place for _, place in places))})


def unlabelled(asked: Asked, places: dict[str, list[str]]) -> DataSource:
    """Files as data without labels.

    ``places``: ``train`` and ``test``, where these are declared; else ``pool``, of which 10 % by hash are the split select,
    and test is select.
    """
    count = sum(map(len, places.values()))
    shares = (
        "10 % of them by their hash are select, and test is the same" if "pool" in places else "train and test as named"
    )
    asked.progress.say(f"{asked.name}: {count} images without labels; {shares}")

    def part(paths: list[str]) -> Part:
        return readable(Part(Files(paths), np.zeros(len(paths), dtype=np.int64)), asked.skip_broken, asked.progress)

    parts = {split: (lambda paths=paths: part(paths)) for split, paths in places.items()}
    first = next(iter(places.values()))
    return DataSource(asked.name, (), parts, natural_size(first), progress=asked.progress)


def beside(file: Path, named: str, where: str) -> str:
    """The path of an image that a file names: absolute as it stands, else below the file's folder.

    Raises:
        BadInput: it leads out of that folder; ``where`` says which line.
    """
    if os.path.isabs(named):
        return named
    below = os.path.normpath(named)
    if below.startswith(".."):
        raise BadInput(
            f"{where}: {named} lies outside the folder of {file.name}",
            fix=f"Move {file.name} up, or write the path in full.",
        )
    return os.path.join(file.parent, below)
