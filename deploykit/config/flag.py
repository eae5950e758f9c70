"""What the flag of an option needs beside the type, default and description that stand at its field.

Both markers stand in the field's ``Annotated``; ``make generate`` makes the flags from fields and markers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from deploykit.base.registry import listed


@dataclass(frozen=True)
class Panel:
    """The help lists this field, and those after it up to the next mark, under ``title``."""

    title: str


@dataclass(frozen=True)
class Flag:
    """How a flag differs from what its field says by itself.

    Attributes:
        names: where it is not called as its field: ``--gpu``, ``--end-to-end/--compute-only``, or ``--no-wait`` of a field
            ``wait`` that it turns off. Empty: ``--`` and the field's name; of what is true by default ``--no-NAME`` too.
        metavar: what stands for the value in the help; None: the choices, or what the type is called.
        choices: what may be given, where another room knows it and the type cannot.
        many: it may be repeated; None: if the field is a tuple of any length.
        parse: makes the field's plain value of all that was given; it takes the texts and the flag's name. None: one text
            is read as the field's type reads it.
        old: a former flag, still taken without a word in the help; the field's former name, for files and keywords, is
            one of its ``validation_alias`` choices.
        positional: it is no flag but the next word.
        hidden: the command line has no flag for this field.
        allows_code: naming user code by this flag allows it to run.
    """

    names: str = ""
    metavar: str | None = None
    choices: Collection[str] = ()
    many: bool | None = None
    parse: Callable[[list[str], str], Any] | None = None
    old: str = ""
    positional: bool = False
    hidden: bool = False
    allows_code: bool = False


HIDDEN = Flag(hidden=True)


@dataclass(frozen=True, eq=False)
class OneOf:
    """The value is one of these names, which a table knows: ``Annotated[str, OneOf(CRITERIA)]``.

    It is what ``Literal`` is where the names are written out.

    Attributes:
        known: the names, looked at when a value is checked.
        before: further names, which stand before them.
        after: which stand after them.
    """

    known: Collection[str]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All that may be given, in order."""
        return (*self.before, *self.known, *self.after)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._checked)

    def _checked(self, value: Any) -> str:
        if isinstance(value, str) and (value in self.known or value in (*self.before, *self.after)):
            return value
        raise PydanticKnownError("literal_error", {"expected": listed([repr(one) for one in self.names], "or")})


def flag_of(info: FieldInfo) -> Flag:
    """The flag's marks of a field, those that stand nearest to it first."""
    marks = [mark for mark in info.metadata if isinstance(mark, Flag)]
    return marks[-1] if marks else Flag()


def plain_type(kind: Any, marks: Iterable[Any]) -> Any:
    """The type, or the literal of the names that a mark beside it allows."""
    names = next((mark.names for mark in marks if isinstance(mark, OneOf)), None)
    return kind if names is None else Literal[names]
