"""What all configurations share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from deploykit.base.atomic import JsonObject
from deploykit.base.errors import BadInput, nearest


class Config(BaseModel):
    """A frozen stage configuration: unknown keys are errors, values are checked, equal configs hash equal."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    def plain(self) -> JsonObject:
        """The JSON-able dictionary that stands in manifests and stage files; :func:`build` reads it back."""
        return self.model_dump(mode="json")

    def but(self, **changes: Any) -> Self:
        """A checked copy with some fields changed."""
        return type(self).model_validate({**self.model_dump(), **changes})


C = TypeVar("C", bound=BaseModel)


def build(kind: type[C], fields: Mapping[str, object], where: str = "", *, flags: Mapping[str, str] | None = None) -> C:
    """Validate ``fields`` as ``kind``, all errors collected into one line.

    Args:
        kind: the configuration's class.
        fields: plain data.
        where: the file that the fields come from, for the message; empty: the command line.
        flags: of each field, by its dotted name, the flag that it was given with, for the message.

    Raises:
        WrongConfig: unknown keys (with the nearest known one) and values that do not fit.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise WrongConfig([mistake(kind, one, flags or {}) for one in united(error.errors())], where) from error


@dataclass(frozen=True)
class Mistake:
    """One value that does not fit, or one key.

    Attributes:
        what: the key, or a sentence where ``expected`` is None.
        got: the value, as Python writes it.
        expected: what would fit.
        fix: what may have been meant.
    """

    what: str
    got: str | None = None
    expected: str | None = None
    fix: str | None = None

    def __str__(self) -> str:
        told = self.what if self.expected is None else f"{self.what}: got {self.got}, expected {self.expected}"
        return f"{told}, {self.fix}" if self.fix else told


class WrongConfig(BadInput):
    """A configuration that does not fit, wherever it was written: as flags, keywords or YAML; its parts are the first's."""

    def __init__(self, mistakes: list[Mistake], where: str = "") -> None:
        self.mistakes, self.where = mistakes, where
        first = mistakes[0]
        super().__init__(first.what, got=first.got, expected=first.expected, fix=first.fix)

    def line(self) -> str:
        """All mistakes in one line."""
        told = " · ".join(map(str, self.mistakes))
        return " ".join((f"{self.where}: {told}" if self.where else told).split())


def united(errors: list[Any]) -> list[Any]:
    """The errors with those of one value's several allowed forms (``"dynamic"`` or a number) made one."""
    united: dict[Any, Any] = {}
    for one in errors:
        *field_parts, form = one["loc"] or ("",)
        field = tuple(field_parts)
        forms = bool(field) and ("[" in str(form) or "constrained" in str(form))
        if not forms:
            united[len(united)] = one
        elif field in united:
            message = one["msg"].removeprefix("Input should be ")
            united[field] = {**united[field], "msg": f"{united[field]['msg']}, or {message}"}
        else:
            united[field] = {**one, "loc": field}
    return list(united.values())


def explain(kind: type[BaseModel], error: Any) -> str:
    """One pydantic error as ``key: what``, with the nearest key for an unknown one."""
    one = mistake(kind, error, {})
    return f"(top): {one}" if not error["loc"] and one.expected is None else str(one)


def mistake(kind: type[BaseModel], error: Any, flags: Mapping[str, str]) -> Mistake:
    """One pydantic error, with the nearest name for an unknown one.

    Args:
        kind: the configuration's class.
        error: of pydantic's ``errors()``.
        flags: of each field, by its dotted name, the flag that it was given with.
    """
    place = _place(error["loc"], flags)
    if error["type"] == "extra_forbidden":
        place = ".".join(map(str, error["loc"]))
        known = _fields_at(kind, error["loc"][:-1])
        close = nearest(str(error["loc"][-1]), known)
        hint = f"did you mean {close!r}?" if close else f"known: {', '.join(known)}" if known else None
        return Mistake(f"unknown key {place!r}", fix=hint)
    if error["type"] == "missing":
        return Mistake(f"missing key {place!r}")
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if error["type"] == "value_error":
        return Mistake(f"{place}: {message}" if error["loc"] else message)
    expected = {"model_type": "a mapping", "tuple_type": "a list"}.get(error["type"], message)
    return Mistake(place, repr(error["input"]), expected, _meant(error))


def _place(loc: tuple[Any, ...], flags: Mapping[str, str]) -> str:
    for i in range(len(loc), 0, -1):
        if (flag := flags.get(".".join(map(str, loc[:i])))) is not None:
            return " ".join([flag, *(part for part in loc[i:] if isinstance(part, str))])
    return ".".join(map(str, loc)) or "(top)"


def _meant(error: Any) -> str | None:
    """The choice that a misspelt one may mean."""
    if error["type"] != "literal_error" or not isinstance(error["input"], str):
        return None
    close = nearest(error["input"], re.findall(r"'([^']*)'", error["ctx"]["expected"]))
    return f"did you mean {close!r}?" if close else None


def _fields_at(kind: Any, loc: tuple[Any, ...]) -> list[str]:
    for part in loc:
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)) or part not in kind.model_fields:
            return []
        kind = kind.model_fields[part].annotation
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []
