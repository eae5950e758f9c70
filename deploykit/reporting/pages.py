"""The pages' templates: one environment, and how they show texts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from deploykit._version import __version__
from deploykit.reporting import format as t

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **context: object) -> str:
    """A page of ``templates/``; each is given the version and the number formats too."""
    return _environment().get_template(template).render(version=__version__, t=t, **context)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("deploykit.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"link": lambda path: "./" + quote(path), "bare": bare, "when": when, "settings": settings}
    return found


def bare(shown: str) -> str:
    """A number without its unit, which the column's head states."""
    for unit in (" ms", " %", " pt", " /s", " mJ"):
        shown = shown.removesuffix(unit)
    return shown


def settings(config: Mapping[str, Any]) -> str:
    """A stage's configuration in one line, what is off or unset left out."""
    return ", ".join(
        f"{key}={value}"
        for key, value in config.items()
        if value is not None and value is not False and value not in ([], {})
    )


def when(created: str) -> str:
    """``2026-03-14 09:26 UTC`` of an ISO time; any other text as it is."""
    try:
        return datetime.fromisoformat(created).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError):
        return created
