"""``.pt2``: an exported program, opened only where nothing in the archive needs unpickling or evaluating.

``torch.export.load`` unpickles payloads that say ``use_pickle``, custom and opaque objects, and the older archives'
weights with ``weights_only=False`` where the safe way fails; it evaluates symbolic expressions as Python (sympify).
So the archive is looked through first, and anything beyond raw tensors and plain arithmetic is refused.
"""

from __future__ import annotations

import io
import json
import logging
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deploykit.base.errors import BadInput

_FIX = "Load the model where its code is at hand and save its state dict."
_EXPRESSION = re.compile(r"[\w\s+\-*/%(),.'=]*")
_WORDS = re.compile(r"[A-Za-z_]\w*")
_KNOWN_WORDS = re.compile(
    r"[suz]\w?\d+|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|CeilToInt|FloorToInt|TruncToInt|IntTrueDiv"
    r"|Symbol|positive|nonnegative|integer|floor|ceiling|Integer|Eq|Ne|True|False|e\d*"
)
_TARGET = re.compile(r"torch\.ops\.(aten|prims|higher_order|torchvision)\.\w+(\.\w+)?|torch\.sym_\w+|_operator\.[a-z]+")
_CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict"}


def load_program(path: Path) -> tuple[Any, nn.Module, tuple[int, ...], tuple[int, ...], list[str]]:
    """Open a ``.pt2`` file; one of half or double precision is brought to float32.

    Returns the ``ExportedProgram``, a module that runs it, the shapes of its one input and of its first output, with −1
    where a dimension is dynamic, and notes of what was changed.

    Raises:
        BadInput: no ``.pt2``, one that would need unpickling, in training mode, or with several inputs.
    """
    check_archive(path)
    logging.getLogger("torch.export.pt2_archive._package").setLevel(logging.ERROR)
    try:
        program = torch.export.load(path)
    except (RuntimeError, ValueError, KeyError, AssertionError, AttributeError, TypeError) as error:
        raise BadInput(f"{path} cannot be read by torch {torch.__version__}: {str(error)[:200]}", fix=_FIX) from error
    names = program.graph_signature.user_inputs
    if len(names) != 1:
        raise BadInput(f"{path} takes {len(names)} inputs", expected="one image batch")
    for node in program.graph.nodes:
        _refuse_training(node, path)
    values = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
    shapes = [values[name].shape for name in (names[0], program.graph_signature.user_outputs[0])]
    program._guards_code = []  # Python source that torch would compile; the archive's is not trusted
    module = program.module()
    for name in ("train", "eval"):  # torch forbids both on exported modules; here they change nothing
        module.__dict__.pop(name, None)
    module.requires_grad_(False)
    notes = list[str]()
    kind = values[names[0]].dtype
    if kind in (torch.float16, torch.bfloat16, torch.float64):
        program = _in_float32(module, tuple(shapes[0]), path)
        module = program.module()
        for name in ("train", "eval"):
            module.__dict__.pop(name, None)
        notes.append(f"cast from {str(kind).removeprefix('torch.')} to float32")
    taken, given = (tuple(size if isinstance(size, int) else -1 for size in shape) for shape in shapes)
    return program, module, taken, given, notes


def _in_float32(module: nn.Module, shape: tuple[Any, ...], path: Path) -> Any:
    """The program exported anew with weights and input in float32.

    Raises:
        BadInput: its operations ask for another type by themselves.
    """
    free = {axis: torch.export.Dim.AUTO for axis, size in enumerate(shape) if not isinstance(size, int)}
    x = torch.zeros([size if isinstance(size, int) else 2 if axis == 0 else 64 for axis, size in enumerate(shape)])
    try:
        return torch.export.export(module.float(), (x,), dynamic_shapes=(free,))
    except Exception as error:  # torch.export raises what the graph raises, and its own errors of many kinds
        raise BadInput(
            f"{path} cannot be brought to float32: {' '.join(str(error).split())[:160]}",
            fix="Export it again after model.float().",
        ) from error


def check_archive(path: Path) -> None:
    """Look through the archive without opening any of its objects.

    Raises:
        BadInput: damaged, of an older format, or holding pickled objects, expressions or operators beyond the plain.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2]: name for name in archive.namelist()}
            if not any(name.startswith("models/") for name in names):
                raise BadInput(f"{path} is no .pt2 of torch ≥ 2.8", fix="Export it again with a newer torch.")
            for name, full in names.items():
                _check_entry(path, name, archive, full)
    except (zipfile.BadZipFile, EOFError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is a truncated or damaged .pt2 file: {error}") from error


def _check_entry(path: Path, name: str, archive: zipfile.ZipFile, full: str) -> None:
    def refuse(what: str) -> BadInput:
        return BadInput(f"{path} holds {what}, which can only be read by running code from the file", fix=_FIX)

    if name.startswith("models/"):
        _check_program(json.loads(archive.read(full)), refuse)
    elif name.startswith(("data/weights/", "data/constants/")):
        leaf = name.rpartition("/")[2]
        if leaf.endswith("_config.json"):
            config = json.loads(archive.read(full))["config"]
            for tensor, entry in config.items():
                if entry.get("use_pickle") or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
                    raise refuse(f"the pickled object {tensor}")
        elif not re.fullmatch(r"(weight|tensor)_\d+", leaf):
            raise refuse(f"the pickled object {leaf}")
    elif name.startswith("data/sample_inputs/"):
        try:
            torch.load(io.BytesIO(archive.read(full)), weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise refuse("sample inputs of foreign classes") from error
    elif name.startswith("data/aotinductor/"):
        raise refuse("compiled code")


def _check_program(content: Mapping[str, Any], refuse: Any) -> None:
    for key, value in _walk(content):
        if key == "target" and not _TARGET.fullmatch(value):
            raise refuse(f"the operator {value[:60]}")
        if key in ("expr_str", "range") and not _plain_expression(value):
            raise refuse(f"the expression {value[:60]!r}")
        if key == "name" and not re.fullmatch(r"[\w.]*", value):
            raise refuse(f"the name {value[:60]!r}")
        if key in ("in_spec", "out_spec"):
            for inner, kind in _walk(json.loads(value)) if value else ():
                if inner == "type" and kind not in _CONTAINERS:
                    raise refuse(f"a container of type {kind}")
    for symbol in content.get("range_constraints") or {}:
        if not _plain_expression(symbol):
            raise refuse(f"the expression {symbol[:60]!r}")


def _plain_expression(text: str) -> bool:
    return bool(_EXPRESSION.fullmatch(text)) and all(_KNOWN_WORDS.fullmatch(word) for word in _WORDS.findall(text))


def _walk(value: Any) -> Iterator[tuple[str, str]]:
    """Every (key, string) below a JSON value."""
    if isinstance(value, dict):
        for key, inside in value.items():
            if isinstance(inside, str):
                yield key, inside
            else:
                yield from _walk(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _walk(inside)


def _refuse_training(node: Any, path: Path) -> None:
    name = str(node.target)
    training = (name.startswith("aten.batch_norm") and len(node.args) > 5 and node.args[5] is True) or (
        name.startswith("aten.dropout") and len(node.args) > 2 and node.args[2] is True
    )
    if training or name.startswith("aten._native_batch_norm_legit.default"):
        raise BadInput(f"{path} was exported in training mode ({name})", fix="Call model.eval() before torch.export.")
