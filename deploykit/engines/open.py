"""Which engine runs a file, opening it, and what a target lacks on this machine."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

from deploykit.base.artifact import read_manifest
from deploykit.base.errors import BadInput, Unavailable
from deploykit.base.overrides import NOTHING_STATED, Stated
from deploykit.base.runner import Engine, Runner
from deploykit.base.spec import Spec, parse_spec
from deploykit.base.targets import BUILT_IN, Target, natural_target, target_names, target_of


def resolve(spec: Spec | str | Path, device: str = "auto") -> Spec:
    """``spec`` with its target filled in: as named, else the manifest's, else the file's natural one.

    With ``device`` cuda the target on a GPU takes the place of the one on the CPU: what was asked to run on a GPU does
    not quietly run on the CPU.

    Raises:
        BadInput: the file does not exist, or nothing says what runs it, or the target does not run such files.
    """
    if not isinstance(spec, Spec):
        spec = parse_spec(str(spec))
    if not spec.path.exists():
        raise BadInput(f"{spec.path} does not exist", fix="Check the path.")
    if spec.path.is_dir():
        raise BadInput(f"{spec.path} is a folder", expected="a model or engine file")
    target = spec.target
    if target is None:
        manifest = read_manifest(spec.path)
        target = manifest.target if manifest and manifest.target else _natural(spec.path)
        target = (target_of(target).on_gpu or target) if device == "cuda" else target
    row = target_of(target)
    suffix = spec.path.suffix.lower()
    if suffix not in row.suffixes and target_names(lambda other: suffix in other.suffixes):
        raise BadInput(
            f"{target} cannot run {spec.path}", expected=" or ".join(row.suffixes), fix=_instead(row, spec.path, suffix)
        )
    return replace(spec, target=target)


def _instead(row: Target, path: Path, suffix: str) -> str:
    """What to do with a file that the target does not run."""
    if row.needs_build:
        return f"Build it first: deploykit build {path} --target {row.name}."
    built = target_names(lambda other: other.needs_build and suffix in other.suffixes)
    if row.takes_onnx and not built:
        return f"Export it first: deploykit export {path}."
    return f"Name another target: {path}@{_natural(path)}."


def _natural(path: Path) -> str:
    """The target of a file that names none: of a plan, the library whose header it has."""
    for row in BUILT_IN:
        if row.header is not None and path.suffix.lower() in row.suffixes:
            return str(importlib.import_module(row.header).read_header(path).target)
    return natural_target(path)


def open_runner(
    spec: Spec | str | Path,
    *,
    threads: int | None = None,
    device: str = "auto",
    stated: Stated = NOTHING_STATED,
    allow_code: bool = False,
) -> Runner:
    """Load an artifact into the engine of its target.

    ``spec``: ``[NAME=]PATH[@TARGET[:key=value,…]]``, or taken apart. ``device``: ``auto``, ``cpu`` or ``cuda``, of
    torch targets and where no target is named; the others name theirs. ``stated``: of the file, before what it says.
    Returns an open runner; use it in a ``with`` block.

    Raises:
        BadInput: the file is missing, broken or foreign to the target, or an option is unknown.
        Unavailable: this machine lacks what the target needs; the error names it.
    """
    spec = resolve(spec, device)
    if threads is not None and threads < 1:
        raise BadInput("threads", got=threads, expected="at least 1")
    if device not in ("auto", "cpu", "cuda"):
        raise BadInput("device", got=repr(device), expected="auto, cpu or cuda")
    assert spec.target is not None
    engine = engine_of(spec.target)
    return engine.open_target(spec, threads=threads, device=device, stated=stated, allow_code=allow_code)


def engine_of(target: str) -> Engine:
    """The module that opens files on ``target``; importing it imports the libraries of its engine where it can.

    Raises:
        Unavailable: it does not load, because a package that it needs is not installed.
    """
    row = target_of(target)
    fix = f"{row.install}." if row.install else None
    try:
        module = importlib.import_module(row.runner)
    except ImportError as error:
        if str(error.name).startswith("deploykit"):
            raise
        raise Unavailable(f"{target} cannot run here: {error}", fix=fix) from error
    if not isinstance(module, Engine):
        raise Unavailable(f"{target} cannot run here: {row.runner} has no open_target and lacking", fix=fix)
    return module


def lacking(target: str) -> Unavailable | None:
    """Why nothing made for ``target`` can be used here, or None."""
    return engine_of(target).lacking(target)
