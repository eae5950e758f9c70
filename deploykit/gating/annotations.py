"""GitHub's annotations: workflow commands that the runner shows at the pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploykit.gating.question import FAIL, PASS
from deploykit.gating.shown import WORDS, sentence, why

if TYPE_CHECKING:
    from deploykit.gating.result import Gate

LEVELS = {FAIL: "error", "cannot_tell": "warning"}


def to_annotations(gate: Gate) -> list[str]:
    """``::error title=…::…`` per broken limit, ``::warning`` per undecided one, ``::notice`` where all hold."""
    lines = [
        f"::{LEVELS[one.verdict]} title={_property(f'{one.variant}: {one.rule} {WORDS[one.verdict]}')}::{_data(why(one))}"
        for one in sorted(gate.findings, key=lambda one: one.verdict != FAIL)
        if one.verdict != PASS
    ]
    return lines or [f"::notice title=deploykit gate::{_data(sentence(gate.findings, gate.verdict))}"]


def _data(text: str) -> str:
    """Escaped as GitHub's toolkit does."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
