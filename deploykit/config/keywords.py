"""Commands take their configuration's fields as keywords: ``export("model.pt", opset=18)``, and live modules as files."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from functools import wraps
from tempfile import TemporaryDirectory
from typing import Any, ParamSpec, TypeVar

from deploykit.base.errors import BadInput
from deploykit.base.notebook import notebook_progress
from deploykit.config.common import Config, Mistake, WrongConfig, build

P = ParamSpec("P")
R = TypeVar("R")
LIVE = "deploykit.exporting.live_module"
"""Whose ``write_module`` makes a model file of a module; named, not imported, because it needs torch."""


def by_keywords(kind: type[Config], *, modules: tuple[str, ...] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function with a parameter ``config`` take the fields of ``kind`` as keywords, too.

    Beside a ``config`` they change it. They are checked as a configuration's are wherever it is written. Type checkers see
    them in ``deploykit/__init__.pyi``, :func:`inspect.signature` at run time. A ``config`` of another type is
    :class:`WrongConfig`. In a notebook progress is shown where none was passed.

    ``modules``: parameters that take a live ``torch.nn.Module``, or a list with some, where a model file is meant: it is
    written to a file that lives as long as the call.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            fields = {key: kwargs.pop(key) for key in list(kwargs) if key not in signature.parameters}
            bound = signature.bind(*args, **kwargs)
            config = bound.arguments.get("config")
            if not isinstance(config, kind | None):
                got = repr(config) if isinstance(config, str) else type(config).__name__
                raise WrongConfig([Mistake("config", got, f"{kind.__name__}, or its fields as keywords")])
            if fields:
                bound.arguments["config"] = build(kind, {**(config.model_dump() if config else {}), **fields})
            if (shown := notebook_progress()) is not None and "progress" in signature.parameters:
                bound.arguments.setdefault("progress", shown)
            live = [key for key in modules if _holds_module(bound.arguments.get(key))]
            if not live:
                return function(*bound.args, **bound.kwargs)
            with TemporaryDirectory(prefix="deploykit-") as folder:
                _write_modules(bound.arguments, live, folder, bound.arguments.get("config"))
                return function(*bound.args, **bound.kwargs)

        own = list(signature.parameters.values())
        vars(call)["__signature__"] = signature.replace(parameters=[*own, *_keywords(kind)])
        vars(call)["modules"] = modules
        return call

    return decorate


def _holds_module(value: object) -> bool:
    """Whether it is a live module, or a list with one; torch is not imported to see that."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    return any(isinstance(one, torch.nn.Module) for one in (value if isinstance(value, list | tuple) else [value]))


def _write_modules(arguments: dict[str, Any], live: list[str], folder: str, config: Config | None) -> None:
    """Put a model file in the place of each live module.

    Raises:
        BadInput: an output that would lie beside the input is not named; a module that no file can hold.
    """
    if "model" in live and arguments.get("output") is None:
        raise BadInput("a live module lies in no folder", expected="the name of the output", fix="Pass output=….")
    write = importlib.import_module(LIVE).write_module
    for key in live:
        value = arguments[key]
        if isinstance(value, list | tuple):
            arguments[key] = [write(one, folder, config) if _holds_module(one) else one for one in value]
        else:
            arguments[key] = write(value, folder, config)


def _keywords(kind: type[Config]) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=... if info.is_required() else info.get_default(call_default_factory=True, validated_data={}),
            annotation=info.annotation,
        )
        for name, info in kind.model_fields.items()
    ]
