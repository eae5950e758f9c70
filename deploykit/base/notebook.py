"""Progress in a notebook: one line of HTML that is replaced as the work goes on. IPython is never imported here."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deploykit.base.progress import Progress, Task, fields_shown

EVERY_S = 0.2


def notebook_progress() -> Progress | None:
    """What shows progress below the cell that runs; None where no notebook's kernel does."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return NotebookProgress(sys.modules["IPython.display"].display) if hasattr(shell, "kernel") else None


class NotebookProgress:
    """Draws with IPython's ``display``: a bar per task, taken away when it is done, and a line per decision."""

    def __init__(self, display: Any) -> None:
        self.display = display

    @contextmanager
    def task(self, title: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        """A bar that lives as long as the ``with`` block."""
        bar = _Bar(self.display({"text/html": "", "text/plain": ""}, raw=True, display_id=True), title, total, unit)
        bar.draw()
        try:
            yield bar
        finally:
            bar.handle.update({"text/html": "", "text/plain": ""}, raw=True)

    def say(self, message: str) -> None:
        """A decision and its reason, or a step done."""
        self._line(message, "")

    def warn(self, message: str) -> None:
        """Something the user should know although the work goes on."""
        self._line(f"warning: {message}", ' style="color:#b45309"')

    def _line(self, message: str, style: str) -> None:
        self.display({"text/html": f"<div{style}>{html.escape(message)}</div>", "text/plain": message}, raw=True)


class _Bar:
    def __init__(self, handle: Any, title: str, total: float | None, unit: str) -> None:
        self.handle, self.title, self.total, self.unit = handle, title, total, unit
        self.done, self.drawn = 0.0, 0.0
        self.fields: dict[str, object] = {}

    def advance(self, n: float = 1, **fields: object) -> None:
        self.done += n
        self.fields.update(fields)
        if time.monotonic() - self.drawn >= EVERY_S:
            self.draw()

    def draw(self) -> None:
        self.drawn = time.monotonic()
        counted = f"{self.done:.0f}" + (f"/{self.total:.0f}" if self.total else "") + f" {self.unit}".rstrip()
        text = "  ".join(filter(None, [self.title, counted, fields_shown(self.fields)]))
        place = f' value="{self.done:g}" max="{self.total:g}"' if self.total else ""
        self.handle.update(
            {"text/html": f"<progress{place}></progress> {html.escape(text)}", "text/plain": text}, raw=True
        )
