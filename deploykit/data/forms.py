"""``--data``: which reader a name stands for."""

from __future__ import annotations

import re
from pathlib import Path

from deploykit.base.errors import BadInput, nearest
from deploykit.base.progress import SILENT, Progress
from deploykit.data.source import DataSource

FORMS = (
    "a folder of class folders",
    "digits",
    "synthetic:SEED",
    "cifar10:ROOT",
    "cifar100:ROOT",
    "imagenet:ROOT",
    "FILE.csv",
    "FILE.npz",
    "module:function",
)
_WORDS = ("digits", "synthetic", "cifar10", "cifar100", "imagenet")
_CODE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def open_data(
    name: str, *, allow_code: bool = False, skip_broken: bool = False, progress: Progress = SILENT
) -> DataSource:
    """Open data by name. Pictures are read when they are asked for, not now.

    Args:
        name: one of DESIGN's forms: a folder, ``digits``, ``synthetic:SEED[,train=…,test=…,size=…]``,
            ``cifar10:ROOT``, ``cifar100:ROOT``, ``imagenet:ROOT``, ``FILE.csv``, ``FILE.npz``, ``module:function``.
        allow_code: ``module:function`` may run.
        skip_broken: leave out pictures that cannot be read, with a warning that names them.
        progress: told how the data were split and what was checked.

    Raises:
        BadInput: unknown name, or data that cannot be used.
    """
    head, colon, rest = name.partition(":")
    if name == "digits":
        from deploykit.data.formats.digits import open_digits

        return open_digits(name, progress)
    if head == "synthetic":
        from deploykit.data.formats.synthetic import open_synthetic

        return open_synthetic(name, progress)
    if colon and head in ("cifar10", "cifar100"):
        from deploykit.data.formats.cifar import open_cifar

        return open_cifar(_root(name, rest), head, name, progress)
    if colon and head == "imagenet":
        from deploykit.data.formats.folders import open_imagenet

        return open_imagenet(_root(name, rest), name, skip_broken=skip_broken, progress=progress)
    path = Path(name).expanduser()
    if path.suffix.lower() == ".csv":
        from deploykit.data.formats.csv import open_csv

        return open_csv(path, name, skip_broken=skip_broken, progress=progress)
    if path.suffix.lower() == ".npz":
        from deploykit.data.formats.npz import open_npz

        return open_npz(path, name, progress)
    if path.exists() or (not colon and ("/" in name or "\\" in name)):
        from deploykit.data.formats.folders import open_folder

        return open_folder(path, name, skip_broken=skip_broken, progress=progress)
    if _CODE.fullmatch(name) and nearest(head, _WORDS) is None:
        from deploykit.data.formats.user_function import open_code

        return open_code(name, allow_code=allow_code, progress=progress)
    close = nearest(head, _WORDS)
    raise BadInput(
        f"unknown data {name!r}: no such folder or name",
        expected="one of " + ", ".join(FORMS),
        fix=f"Did you mean {close + (':' + (rest or 'ROOT') if close != 'digits' else '')!r}?" if close else None,
    )


def _root(name: str, rest: str) -> Path:
    root = Path(rest).expanduser()
    if not rest or not root.is_dir():
        raise BadInput(f"--data {name}: the folder {rest or '(none)'} does not exist", expected="the data set's folder")
    return root
