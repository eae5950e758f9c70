"""What every command hands back."""

from __future__ import annotations

import html
from abc import ABC, abstractmethod

from deploykit.base.atomic import JsonObject

EXIT_CODES = {"ok": 0, "failed": 1, "unsure": 3}


class Result(ABC):
    """The answer of a command: as the object of ``--json``, as text for people, and as the status it ends with."""

    @property
    def ok(self) -> bool:
        """Whether the answer is yes."""
        return True

    @property
    def status(self) -> str:
        """Of ``--json``: ``ok``, ``failed``, or ``unsure`` where more images are needed to tell."""
        return "ok" if self.ok else "failed"

    @property
    def exit_code(self) -> int:
        """0 where the answer is yes; else the work ran, and the answer is no (1) or cannot be told (3)."""
        return 0 if self.ok else EXIT_CODES[self.status]

    @property
    def complaint(self) -> str:
        """A line that is said as an error beside the result; empty: nothing is wrong."""
        return ""

    @abstractmethod
    def to_dict(self) -> JsonObject:
        """JSON-able fields."""

    @abstractmethod
    def summary(self) -> str:
        """For people."""

    def _repr_html_(self) -> str:
        """What a notebook shows below the cell whose last line it is."""
        name = type(self).__name__.removesuffix("Result").lower()
        return f"<div><b>{name}: {self.status}</b><pre>{html.escape(self.summary())}</pre></div>"
