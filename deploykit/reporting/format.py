"""Numbers as people read them: units kept, intervals beside estimates, a dash for the unknown; and tables of text."""

from __future__ import annotations

import html
import re
from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from deploykit.reporting.quality import Accuracy, Parity, Quality, Robustness
    from deploykit.reporting.schema import Against, Of

NONE = "–"
MINUS = "−"


def number(value: float, digits: int = 3) -> str:
    """At least ``digits`` significant digits, no exponent for everyday sizes, thousands apart."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e7 or size < 1e-4:
        return f"{value:.{digits - 1}e}".replace("-", MINUS)
    decimals = 0
    while size < 10 ** (digits - 1 - decimals) and decimals < 8:
        decimals += 1
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def milliseconds(value: float | None) -> str:
    """``0.412 ms``."""
    return NONE if value is None else f"{number(value)} ms"


def rate(value: float | None) -> str:
    """Images a second: ``2,430 /s``."""
    return NONE if value is None else f"{number(value)} /s"


def percent(value: float | None, decimals: int = 2) -> str:
    """A ratio as ``98.67 %``."""
    return NONE if value is None else f"{100 * value:.{decimals}f} %"


def percent_interval(low: float | None, high: float | None, decimals: int = 2) -> str:
    """``97.1 … 99.4 %``, or nothing."""
    return "" if low is None or high is None else f"{100 * low:.{decimals}f} … {100 * high:.{decimals}f} %"


def points(value: float | None) -> str:
    """Percentage points with a sign: ``+0.22 pt``."""
    if value is None:
        return NONE
    return f"{_signed(value)} pt"


def _signed(value: float) -> str:
    text = f"{abs(value):.2f}"
    return "0.00" if text == "0.00" else f"{MINUS if value < 0 else '+'}{text}"


def metric_word(metric: str) -> str:
    """A quality's metric for people: ``top-1``."""
    return {"top1": "top-1", "map": "mAP", "miou": "mIoU"}.get(metric, metric)


def drop_interval(of: Accuracy | Against | Quality | Robustness | None) -> str:
    """``−0.22 … +0.89 pt``, or nothing."""
    if of is None or of.drop_pt_low is None or of.drop_pt_high is None:
        return ""
    return f"{_signed(of.drop_pt_low)} … {_signed(of.drop_pt_high)} pt"


def ratio(value: float | None) -> str:
    """``2.41×``, three digits below 1."""
    return NONE if value is None else f"{_times(value)}×"


def _times(value: float) -> str:
    return f"{value:.2f}" if value >= 0.995 else number(value)


class Interval(Protocol):
    """What has a lower and an upper end, each None where it is not known."""

    @property
    def low(self) -> float | None:
        """The lower end."""

    @property
    def high(self) -> float | None:
        """The upper end."""


def ratio_interval(of: Interval | None) -> str:
    """``2.38 … 2.44×``, or nothing."""
    if of is None or of.low is None or of.high is None:
        return ""
    return f"{_times(of.low)} … {_times(of.high)}×"


def times(estimate: float, of: Interval | None, ci_level: float) -> str:
    """``2.41× (95 % interval 2.38 … 2.44×)``."""
    interval = ratio_interval(of)
    return ratio(estimate) + (f" ({100 * ci_level:g} % interval {interval})" if interval else "")


def size(value: int | None) -> str:
    """Bytes as ``1.23 MB`` (powers of ten)."""
    if value is None:
        return NONE
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= step:
            return f"{number(value / step)} {unit}"
    return f"{value} B"


def count(value: float | None) -> str:
    """A count as ``174 k``, ``11.7 M``, ``1.81 G``."""
    if value is None:
        return NONE
    for unit, step in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= step:
            return f"{number(value / step)} {unit}"
    return f"{value:g}"


def decibels(parity: Parity | None) -> str:
    """The SNR as ``123.4 dB``, or ``identical``."""
    if parity is None:
        return NONE
    if parity.identical:
        return "identical"
    return NONE if parity.snr_db is None else f"{parity.snr_db:.1f} dB".replace("-", MINUS)


def in_unit_of(limit: str, value: float | bool | None) -> str:
    """A number in the unit of a gate's limit, by its name: ``+0.22 pt``, ``1.020×``, ``0.412 ms``, ``1.20 MB``."""
    if value is None or isinstance(value, bool):
        return NONE if value is None else "yes" if value else "no"
    if limit.endswith("_pt") or "_pt_" in limit:
        return f"{value:+.2f} pt".replace("-", MINUS)
    if limit.endswith("_bytes"):
        return f"{value / 1e6:,.2f} MB"
    if limit.endswith("_ms"):
        return milliseconds(float(value))
    if limit.endswith("_per_s"):
        return rate(float(value))
    if limit.endswith("_db"):
        return f"{value:.1f} dB".replace("-", MINUS)
    if "ratio" in limit or "speedup" in limit:
        return f"{value:.3f}×"
    return f"{100 * value:.2f} %"


def timed(of: Of | None) -> str:
    """What was timed, in words: ``single stream, batch 1, 1 thread, compute only, host clock``."""
    if of is None:
        return "nothing was timed"
    parts = [of.scenario.replace("_", " "), f"batch {of.batch}"]
    if of.threads is not None:
        parts.append(f"{of.threads} thread{'s' if of.threads != 1 else ''}")
    parts.append("compute only" if of.timed == "compute" else "end to end")
    parts.append(f"{of.clock} clock")
    return ", ".join(parts)


def listed(value: Any) -> str:
    """A finding of an audit for people: ``Conv 9, Gemm 1`` for a mapping, its values with commas for a list."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {listed(one)}" for key, one in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(listed(one) for one in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


_SPECIAL = re.compile(r"([\\`*_{}\[\]#~|])")


def escaped(value: object) -> str:
    """Text that stands as it is in a Markdown line or table cell: no HTML, no markup, no new line, no mention."""
    line = " ".join(str(value).split())
    return _SPECIAL.sub(r"\\\1", html.escape(line, quote=False)).replace("@", "&#64;")


def code(value: object) -> str:
    """Text as code, also inside a table cell."""
    line = html.escape(" ".join(str(value).split()), quote=False)
    line = _SPECIAL.sub(lambda found: f"&#{ord(found.group())};", line)
    return f"<code>{line.replace('@', '&#64;')}</code>"


def aligned(rows: Sequence[Sequence[str]], right: Container[int] = ()) -> list[str]:
    """The lines of a table for a terminal; the columns ``right`` are aligned to that side."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> list[str]:
    """A Markdown table of cells that are escaped already; ``align`` has one of ``l``, ``r`` per column."""
    marks = {"l": ":--", "r": "--:"}
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(marks[one] for one in align)} |"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def folded(title: str, lines: Sequence[str]) -> list[str]:
    """Lines behind a summary that opens them; nothing where there are none."""
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>", ""] if lines else []
