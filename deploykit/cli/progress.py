"""Progress drawn with Rich on stderr; plain lines where stderr is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from deploykit.base.progress import Progress, Task, fields_shown


def terminal_progress() -> Progress:
    """Rich bars on a terminal, else plain lines, at most one every ten seconds and task."""
    return _RichProgress() if sys.stderr.isatty() else _PlainProgress()


def _rate(done: float, elapsed_s: float, unit: str) -> str:
    """Units a second; of seconds themselves there is none worth telling."""
    return f"{done / elapsed_s:.1f} {unit}/s" if unit not in ("", "s") else ""


class _PlainTask:
    def __init__(self, title: str, total: float | None, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done, self.start, self.said = 0.0, time.monotonic(), time.monotonic()
        self.fields: dict[str, object] = {}

    def advance(self, n: float = 1, **fields: object) -> None:
        self.done += n
        self.fields.update(fields)
        now = time.monotonic()
        if now - self.said >= 10:
            self.said = now
            self.line(now)

    def line(self, now: float) -> None:
        elapsed = max(now - self.start, 1e-9)
        parts = [self.title]
        if self.total or self.done:
            parts.append(f"{self.done:.0f}" + (f"/{self.total:.0f}" if self.total else "") + f" {self.unit}".rstrip())
            parts.append(_rate(self.done, elapsed, self.unit))
        else:
            parts.append(f"{elapsed:.0f} s")
        if self.total and 0 < self.done < self.total:
            parts.append(f"{(self.total - self.done) * elapsed / self.done:.0f} s left")
        parts.append(fields_shown(self.fields))
        print("  ".join(part for part in parts if part), file=sys.stderr, flush=True)


class _PlainProgress:
    @contextmanager
    def task(self, title: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        task = _PlainTask(title, total, unit)
        yield task
        now = time.monotonic()
        if now - task.start >= 1:
            task.line(now)

    def say(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    def warn(self, message: str) -> None:
        print(f"warning: {message}", file=sys.stderr, flush=True)


class _RichProgress:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self.console = Console(stderr=True)
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[shown]}"),
            console=self.console,
            transient=True,
        )
        self.open = 0

    @contextmanager
    def task(self, title: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        if self.open == 0:
            self.bars.start()
        self.open += 1
        identity = self.bars.add_task(title, total=total, rate="", shown="")
        task = _RichTask(self.bars, identity, unit)
        try:
            yield task
        finally:
            self.bars.remove_task(identity)
            self.open -= 1
            if self.open == 0:
                self.bars.stop()

    def say(self, message: str) -> None:
        self.console.print(message, markup=False, highlight=False)

    def warn(self, message: str) -> None:
        self.console.print(f"[yellow]warning:[/yellow] {_escaped(message)}", highlight=False)


def _escaped(message: str) -> str:
    from rich.markup import escape

    return escape(message)


class _RichTask:
    def __init__(self, bars: object, identity: object, unit: str) -> None:
        self.bars, self.identity, self.unit = bars, identity, unit
        self.done, self.start = 0.0, time.monotonic()
        self.fields: dict[str, object] = {}

    def advance(self, n: float = 1, **fields: object) -> None:
        self.done += n
        self.fields.update(fields)
        elapsed = max(time.monotonic() - self.start, 1e-9)
        rate = _rate(self.done, elapsed, self.unit)
        self.bars.update(self.identity, advance=n, rate=rate, shown=fields_shown(self.fields))  # type: ignore[attr-defined]
