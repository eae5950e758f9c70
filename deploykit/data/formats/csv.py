"""A CSV file of ``path,label[,split]``."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deploykit.base.errors import BadInput, from_os_error
from deploykit.data.classes import class_order
from deploykit.data.formats.image_list import beside
from deploykit.data.forms import Asked
from deploykit.data.source import DataSource
from deploykit.data.splits import split_of
from deploykit.data.stores import Files, Part, natural_size, readable

_NO_LABEL = ("", "nan", "na", "n/a", "null", "none")


@dataclass
class _Rows:
    paths: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


def open_csv(asked: Asked) -> DataSource:
    """Pictures named in a CSV file with a header.

    Relative paths are looked up beside the CSV file and must stay below its folder; absolute ones are taken as they
    stand. Without a ``split`` column (train, val or select, test) a fifth, chosen by picture hash, is the test split.

    Raises:
        BadInput: missing columns, empty labels, missing files, one class only.
    """
    path, name, progress = asked.path, asked.name, asked.progress
    rows = _read(path)
    missing = [(line, one) for line, one in zip(rows.lines, rows.paths, strict=True) if not os.path.isfile(one)]
    if missing:
        shown = ", ".join(f"{one} (line {line})" for line, one in missing[:3]) + (" …" if len(missing) > 3 else "")
        raise BadInput(f"{path}: {len(missing)} of {len(rows.paths)} pictures do not exist: {shown}")
    where = split_of(rows.splits, f"{path}", rows.lines) if rows.splits else None
    known = {one for i, one in enumerate(rows.labels) if where is None or where[i] != "test"} or set(rows.labels)
    for line, label in zip(rows.lines, rows.labels, strict=True):
        if label not in known:
            raise BadInput(
                f"{path}, line {line}: the label {label!r} is in the test split only", fix="Check its spelling."
            )
    classes = class_order(known)
    if len(classes) < 2:
        raise BadInput(f"{path} holds one class only", got=classes[0], expected="at least two labels")
    place = {one: index for index, one in enumerate(classes)}
    labels = np.array([place[one] for one in rows.labels], dtype=np.int64)
    if where is None:
        progress.say(f"{name}: no split column, so a fifth of the pictures, chosen by their hash, is the test split")
        where = np.full(len(labels), "pool")

    def part(split: str) -> Part:
        chosen = np.flatnonzero(where == split)
        return readable(Part(Files([rows.paths[i] for i in chosen]), labels[chosen]), asked.skip_broken, progress)

    parts = {split: (lambda split=split: part(split)) for split in dict.fromkeys(where.tolist())}
    return DataSource(name, classes, parts, natural_size(rows.paths), progress=progress)


def _read(path: Path) -> _Rows:
    rows = _Rows()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [one.strip().lower() for one in next(reader, [])]
            if "path" not in header or "label" not in header:
                raise BadInput(
                    f"{path} lacks a column",
                    got=", ".join(header) or "an empty file",
                    expected="a first line path,label or path,label,split",
                )
            columns: dict[str, int] = {one: header.index(one) for one in ("path", "label", "split") if one in header}
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    _take(rows, [cell.strip() for cell in cells], columns, path, reader.line_num)
    except OSError as error:
        raise from_os_error(error, f"cannot read {path}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} is no CSV file in UTF-8: {error}") from error
    if not rows.paths:
        raise BadInput(f"{path} holds no pictures", expected="lines path,label below the header")
    return rows


def _take(rows: _Rows, cells: list[str], columns: dict[str, int], path: Path, line: int) -> None:
    if len(cells) <= max(columns.values()):
        raise BadInput(f"{path}, line {line}", got=f"{len(cells)} values", expected=f"{max(columns.values()) + 1}")
    label = cells[columns["label"]]
    if label.lower() in _NO_LABEL:
        raise BadInput(f"{path}, line {line}: no label", got=repr(label), expected="a class name or number")
    picture = cells[columns["path"]]
    if not picture:
        raise BadInput(f"{path}, line {line}: no path")
    rows.paths.append(beside(path, picture, f"{path}, line {line}"))
    rows.labels.append(label)
    rows.lines.append(line)
    if "split" in columns:
        rows.splits.append(cells[columns["split"]])
