"""``--data``: which form of data a name stands for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploykit.base.errors import BadInput, nearest
from deploykit.base.progress import SILENT, Progress
from deploykit.config.registries import DATA_FORMS
from deploykit.data.source import DataSource

_CODE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Asked:
    """What a form is opened with.

    ``name``: of the data, as it was given. ``path``: the folder or file in it; of a form that reads its text itself,
    that text as a path. ``skip_broken``: leave out pictures that cannot be read, with a warning that names them.
    ``progress``: told how the data were split and what was checked.
    """

    name: str
    path: Path
    allow_code: bool = False
    skip_broken: bool = False
    progress: Progress = SILENT


Opener = Callable[[Asked], DataSource]


def open_data(
    name: str, *, allow_code: bool = False, skip_broken: bool = False, progress: Progress = SILENT
) -> DataSource:
    """Open data by name. Pictures are read when they are asked for, not now.

    ``name``: in one of the forms of :data:`deploykit.config.registries.DATA_FORMS`.

    Raises:
        BadInput: unknown name, or data that cannot be used.
    """
    form = form_of(name)
    if form is None:
        raise _unknown(name)
    rest = name.partition(":")[2]
    path = Path(rest if DATA_FORMS[form].after else name).expanduser()
    if DATA_FORMS[form].after == "folder" and not (rest and path.is_dir()):
        raise BadInput(f"--data {name}: the folder {rest or '(none)'} does not exist", expected="the data set's folder")
    opener: Opener = DATA_FORMS.load(form)
    return opener(Asked(name, path, allow_code, skip_broken, progress))


def form_of(name: str) -> str | None:
    """The form that a data name is of, or None where it is of none."""
    head, colon, _ = name.partition(":")
    named = DATA_FORMS.get(head)
    if named is not None and (named.after == "text" or (named.after == "folder" and colon)):
        return head
    if named is not None and named.after == "nothing" and not colon:
        return head
    path = Path(name).expanduser()
    for form in DATA_FORMS.values():
        if form.suffix and path.suffix.lower() == form.suffix:
            return form.name
    if path.exists() or (not colon and ("/" in name or "\\" in name)):
        return "folder"
    return "function" if names_code(name) and nearest(head, _words()) is None else None


def names_code(name: str) -> bool:
    """Whether a data name is written as user code, ``module:function``, and is of no form that has a name."""
    return bool(_CODE.fullmatch(name)) and name.partition(":")[0] not in _words()


def _words() -> list[str]:
    return [form.name for form in DATA_FORMS.values() if form.after is not None]


def _unknown(name: str) -> BadInput:
    head, _, rest = name.partition(":")
    close = nearest(head, _words())
    meant = close if close is None or DATA_FORMS[close].after == "nothing" else f"{close}:{rest or 'ROOT'}"
    return BadInput(
        f"unknown data {name!r}: no such folder or name",
        expected="one of " + ", ".join(form.shown for form in DATA_FORMS.values()),
        fix=f"Did you mean {meant!r}?" if meant else None,
    )
