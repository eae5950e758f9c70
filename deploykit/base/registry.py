"""A table of one of many: what can be named, in a line each, and where its code lies, which is imported when it is used.

The table itself is light: configurations and help read its names and facts without importing numpy or torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from deploykit.base.errors import BadInput, unknown


@dataclass(frozen=True)
class Entry:
    """One line of a table.

    ``name``: as users write it. ``place``: ``module:attribute`` of what it stands for. ``help``: one sentence.
    """

    name: str
    place: str
    help: str


E = TypeVar("E", bound=Entry)


class Registry(Mapping[str, E]):
    """Name → entry, in the order of the lines.

    ``kind``: what the entries are, in one or two words, for messages. ``entries``: the table; a test adds a line to it.
    ``kind``: see above. ``lines``: one for each entry.

    Raises:
        ValueError: two entries of one name.
    """

    def __init__(self, kind: str, *lines: E) -> None:
        self.kind = kind
        self.entries: dict[str, E] = {}
        for one in lines:
            if one.name in self.entries:
                raise ValueError(
                    f"{kind} {one.name!r} stands twice: {self.entries[one.name].place} and {one.place}; rename one"
                )
            self.entries[one.name] = one

    def __getitem__(self, name: str) -> E:
        return self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def find(self, name: str) -> E:
        """The entry of this name.

        Raises:
            BadInput: there is none; lists those there are, with the nearest.
        """
        if name not in self.entries:
            raise self.unknown(name)
        return self.entries[name]

    def unknown(self, name: str) -> BadInput:
        """The error for a name that no entry has."""
        return unknown(self.kind, name, self.entries)

    def load(self, name: str) -> Any:
        """What the entry stands for, imported now.

        Raises:
            BadInput: there is no such entry; see :meth:`find`.
        """
        module, _, attribute = self.find(name).place.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def told(self, last: str = "or") -> str:
        """All entries with their help, for the help of an option: ``kd (Hinton 2015) or dkd (Zhao 2022)``."""
        return listed([f"{one.name} ({one.help})" for one in self.entries.values()], last)


def listed(words: Sequence[str], last: str = "and") -> str:
    """``a, b and c``."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
