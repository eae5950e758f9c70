"""How long work tells where it is: a callback protocol. The Rich bars that draw it live in ``cli``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One bar."""

    def advance(self, n: float = 1, **fields: object) -> None:
        """Move on by ``n`` units; ``fields`` (loss=…, accuracy=…) are shown beside the bar."""


class Progress(Protocol):
    """Where a command says what it does. All methods are cheap enough to call once a batch."""

    def task(self, title: str, total: float | None = None, unit: str = "") -> AbstractContextManager[Task]:
        """A bar that lives as long as the ``with`` block; ``total=None`` when the end is not known."""

    def say(self, message: str) -> None:
        """A decision and its reason, or a step done."""

    def warn(self, message: str) -> None:
        """Something the user should know although the work goes on."""


def fields_shown(fields: Mapping[str, object]) -> str:
    """What stands beside a bar: ``loss 0.31  accuracy 0.98``."""
    return "  ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in fields.items()
    )


class _SilentTask:
    def advance(self, n: float = 1, **fields: object) -> None:
        """Show nothing."""


class Silent:
    """The progress of library calls that pass none: shows nothing."""

    @contextmanager
    def task(self, title: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        """A bar nobody sees."""
        yield _SilentTask()

    def say(self, message: str) -> None:
        """Show nothing."""

    def warn(self, message: str) -> None:
        """Show nothing."""


SILENT: Progress = Silent()
