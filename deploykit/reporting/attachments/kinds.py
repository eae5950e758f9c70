"""What all attachments share; what comes from a file is checked against its kind before it is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deploykit.base.errors import BadInput
from deploykit.config.flag import OneOf
from deploykit.config.registries import ATTACHMENTS
from deploykit.reporting.read import plain

SCHEMA = "deploykit.attachment/1"
LARGEST = 1e15
"""Of a number that is drawn: beyond it scales would overflow."""

Name = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(max_length=1000)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]


class Piece(BaseModel):
    """A piece of an attachment: no NaN, unknown keys refused."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Content(Piece):
    """What an attachment shows: its fields are the payload of a kind."""

    def shown(self, title: str) -> dict[str, object]:
        """What ``templates/attachments.html`` shows below the title: ``kind`` is ``table``, ``chart`` or ``sensitivity`` there."""
        raise NotImplementedError


class Attachment(Piece):
    """One thing to show; ``payload`` is of its kind.

    Attributes:
        title: above it.
        kind: one of :data:`deploykit.config.registries.ATTACHMENTS`.
        stage: that made it.
        note: a sentence below the title, or None.
        payload: the :class:`Content` of its kind as plain data.
    """

    schema_: Literal["deploykit.attachment/1"] = Field(default="deploykit.attachment/1", alias="schema")
    title: Name
    kind: Annotated[str, OneOf(ATTACHMENTS)]
    stage: Name
    note: Text | None = None
    payload: dict[str, Any]

    def plain(self) -> dict[str, Any]:
        """JSON-able, as it stands in files."""
        return self.model_dump(mode="json", by_alias=True)

    def content(self) -> Content:
        """The payload as its kind."""
        kind: type[Content] = ATTACHMENTS.load(self.kind)
        return kind.model_validate(self.payload)


def checked(fields: Any, where: str) -> Attachment:
    """The attachment that plain data says, its payload with every default filled in.

    Raises:
        BadInput: it does not fit its kind; names the first few places that do not.
    """
    try:
        found = Attachment.model_validate(fields)
        payload = found.content()
    except ValidationError as error:
        told = []
        for one in error.errors()[:3]:
            place = ".".join(str(part) for part in one["loc"]) or "(top)"
            told.append(f"{place[:120]}: {one['msg'].removeprefix('Value error, ')}")
        raise BadInput(f"{where} is no attachment: {' · '.join(told)}") from error
    return found.model_copy(update={"payload": payload.model_dump(mode="json", by_alias=True)})


def made(kind: str, title: str, stage: str, note: str | None, payload: Mapping[str, Any]) -> Attachment:
    """An attachment of plain data; NaN and infinities become None.

    Raises:
        BadInput: it does not fit its kind.
    """
    fields = {"title": title, "kind": kind, "stage": stage, "note": note, "payload": plain(dict(payload))}
    return checked(fields, f"{kind} {title!r}")
