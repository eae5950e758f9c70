"""What all configurations share."""

from __future__ import annotations

from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from deploykit.base.errors import BadInput, nearest


class Config(BaseModel):
    """A frozen stage configuration: unknown keys are errors, values are checked, equal configs hash equal."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    def plain(self) -> dict[str, Any]:
        """The JSON-able dictionary that stands in manifests and stage files; :func:`build` reads it back."""
        return self.model_dump(mode="json")

    def but(self, **changes: Any) -> Self:
        """A checked copy with some fields changed."""
        return type(self).model_validate({**self.model_dump(), **changes})


C = TypeVar("C", bound=BaseModel)


def build(kind: type[C], fields: dict[str, Any], where: str = "") -> C:
    """Validate ``fields`` as ``kind``, all errors collected into one line.

    Args:
        kind: the configuration's class.
        fields: plain data.
        where: the file that the fields come from, for the message; empty: the command line.

    Raises:
        BadInput: unknown keys (with the nearest known one) and values that do not fit.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        told = " · ".join(explain(kind, one).removeprefix("(top): ") for one in _united(error.errors()))
        raise BadInput(f"{where}: {told}" if where else told) from error


def _united(errors: list[Any]) -> list[Any]:
    """The errors with those of one value's several allowed forms (``"dynamic"`` or a number) made one."""
    united: dict[Any, Any] = {}
    for one in errors:
        field = one["loc"][:1]
        forms = (len(one["loc"]) == 2 and "[" in str(one["loc"][1])) or "constrained" in str(one["loc"][-1:])
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
    place = ".".join(str(part) for part in error["loc"]) or "(top)"
    if error["type"] == "extra_forbidden":
        known = _fields_at(kind, error["loc"][:-1])
        close = nearest(str(error["loc"][-1]), known)
        hint = f", did you mean {close!r}?" if close else (f", known: {', '.join(known)}" if known else "")
        return f"unknown key {place!r}{hint}"
    if error["type"] == "missing":
        return f"missing key {place!r}"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if error["type"] == "model_type":
        message = "a mapping"
    if error["type"] == "tuple_type":
        message = "a list"
    return (
        f"{place}: got {error['input']!r}, expected {message}"
        if error["type"] != "value_error"
        else f"{place}: {message}"
    )


def _fields_at(kind: Any, loc: tuple[Any, ...]) -> list[str]:
    for part in loc:
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)) or part not in kind.model_fields:
            return []
        kind = kind.model_fields[part].annotation
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []
