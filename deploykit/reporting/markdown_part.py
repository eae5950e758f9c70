"""Text that stands as it is in a Markdown page, and tables of it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

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


def table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> list[str]:
    """A Markdown table of cells that are escaped already; ``align`` has one of ``l``, ``r`` per column."""
    marks = {"l": ":--", "r": "--:"}
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(marks[one] for one in align)} |"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def folded(title: str, lines: Sequence[str]) -> list[str]:
    """Lines behind a summary that opens them; nothing where there are none."""
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>", ""] if lines else []
