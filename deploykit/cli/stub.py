"""``deploykit/__init__.pyi``: the public names, and each command with its configuration's fields as keywords."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import deploykit
from deploykit.config.common import Config
from deploykit.config.flag import plain_type

FILE = Path(__file__).parents[1] / "__init__.pyi"
_HEAD = '''"""The public names with their types. Generated from the configurations: run ``make generate`` instead of editing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from torch.nn import Module

PUBLIC: dict[str, tuple[str, ...]]

'''
_KNOWN = {"Mapping": Mapping, "Sequence": Sequence, "Path": Path, "Any": Any, "Literal": Literal}


def stub_text() -> str:
    """The file's text."""
    public = {name: getattr(deploykit, name) for names in deploykit.PUBLIC.values() for name in names}
    commands = {name: one for name, one in public.items() if inspect.isfunction(one) and inspect.unwrap(one) is not one}
    used: dict[str, str] = {}
    declared = [_command(name, inspect.unwrap(one), vars(one)["modules"], used) for name, one in commands.items()]
    lines = ["from deploykit._version import __version__ as __version__"]
    for module, names in deploykit.PUBLIC.items():
        lines += [f"from {module} import {name} as {name}" for name in names if name not in commands]
    lines += [f"from {module} import {name}" for name, module in used.items() if name not in public]
    return _HEAD + "\n".join(sorted(lines)) + "\n\n" + "\n".join(declared)


def _command(name: str, function: FunctionType, live: tuple[str, ...], used: dict[str, str]) -> str:
    """The declaration of a command; ``used`` gains the modules of the names in its annotations.

    ``live``: parameters that take a module, too.
    """
    signature = inspect.signature(function)
    own = {key: _own(one, key in live) for key, one in signature.parameters.items()}
    told = [*own.values(), str(signature.return_annotation)]
    for word in re.findall(r"[A-Za-z_]\w*", " ".join(told)):
        if word not in _KNOWN and inspect.isclass(found := function.__globals__.get(word)):
            used[word] = found.__module__
    kind: type[Config] = function.__globals__[signature.parameters["config"].annotation.partition(" ")[0]]
    words = [text for key, text in own.items() if signature.parameters[key].kind is not inspect.Parameter.KEYWORD_ONLY]
    options = [text for key, text in own.items() if signature.parameters[key].kind is inspect.Parameter.KEYWORD_ONLY]
    fields = [
        f"{key}: {typed(plain_type(info.annotation, info.metadata))}{_default(info)}"
        for key, info in kind.model_fields.items()
    ]
    result = signature.return_annotation
    if not any(info.is_required() for info in kind.model_fields.values()):
        return _declared(name, [*words, "*", *options, *fields], result)
    before, given = [one for one in words if not one.startswith("config:")], f"config: {kind.__name__}"
    bare = [one.partition(" = ")[0] for one in before]
    required = [one for one in fields if " = " not in one]
    others = [one for one in fields if " = " in one]
    beside = [f"{one.partition(' = ')[0]} = ..." for one in fields]
    forms = (
        [*bare, given, "*", *options, *beside],
        [*before, "*", given, *options, *beside],
        [*before, "*", *required, *options, *others],
    )
    return "\n".join(f"@overload\n{_declared(name, form, result)}" for form in forms)


def _declared(name: str, parameters: list[str], result: str) -> str:
    return f"def {name}(\n" + "".join(f"    {one},\n" for one in parameters) + f") -> {result}: ...\n"


def _own(one: inspect.Parameter, live: bool) -> str:
    kind = one.annotation.replace("Path", "Path | Module") if live else one.annotation
    if one.default is inspect.Parameter.empty:
        return f"{one.name}: {kind}"
    plain = one.default is None or isinstance(one.default, str | int | float | tuple)
    return f"{one.name}: {kind} = {_text(one.default) if plain else '...'}"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return ""
    return " = ..." if info.default_factory is not None else f" = {_text(info.default)}"


def _text(value: Any) -> str:
    return repr(value).replace("'", '"')


def typed(kind: Any) -> str:
    """What a keyword of this type takes: pydantic takes any sequence as a tuple, and a mapping as a configuration."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return typed(plain_type(parts[0], kind.__metadata__))
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(typed(part) for part in parts))
    if origin is Literal:
        return f"Literal[{', '.join(map(_text, parts))}]"
    if origin is tuple:
        return f"Sequence[{typed(parts[0])}]"
    if origin is dict:
        return f"Mapping[{', '.join(map(typed, parts))}]"
    if kind is type(None):
        return "None"
    if inspect.isclass(kind) and issubclass(kind, BaseModel):
        return f"{kind.__name__} | Mapping[str, Any]"
    return "Any" if kind is Any else str(kind.__name__)
