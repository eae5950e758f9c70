"""Commands take their configuration's fields as keywords: ``export("model.pt", opset=18)``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from deploykit.config.common import Config, Mistake, WrongConfig, build

P = ParamSpec("P")
R = TypeVar("R")


def by_keywords(kind: type[Config]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function with a parameter ``config`` take the fields of ``kind`` as keywords, too.

    Beside a ``config`` they change it. They are checked as a configuration's are wherever it is written. Type checkers see
    them in ``deploykit/__init__.pyi``, :func:`inspect.signature` at run time. A ``config`` of another type is
    :class:`WrongConfig`.
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
            return function(*bound.args, **bound.kwargs)

        own = list(signature.parameters.values())
        vars(call)["__signature__"] = signature.replace(parameters=[*own, *_keywords(kind)])
        return call

    return decorate


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
