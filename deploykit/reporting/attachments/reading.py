"""The attachments that a report names, from the files beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deploykit.base.errors import BadInput
from deploykit.reporting.attachments.kinds import SCHEMA, Attachment, checked

MAX_BYTES = 1 << 23


def read_attachment(path: Path, folder: Path) -> Attachment | None:
    """The attachment in a file, or None where the file is of another schema (a log, an image), or cannot be drawn.

    A path that leaves ``folder``, through a link for instance, is not followed.
    """
    fields = read_json(path, folder)
    if not isinstance(fields, dict) or fields.get("schema") != SCHEMA:
        return None
    try:
        return checked(fields, path.name)
    except (BadInput, RecursionError):
        return None


def read_json(path: Path, folder: Path) -> Any:
    """What a JSON file inside ``folder`` holds, or None where that cannot be had."""
    try:
        real = path.resolve()
        if not real.is_relative_to(folder.resolve()) or not real.is_file() or real.stat().st_size > MAX_BYTES:
            return None
        return json.loads(real.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def attachments_of(report: dict[str, Any], folder: Path) -> list[tuple[Attachment, str, list[str]]]:
    """Attachment, its file, and the variants that have it; each file once, in the order of the report."""
    variants: dict[str, list[str]] = {}
    for variant in report["variants"]:
        for one in variant["attachments"]:
            variants.setdefault(one["file"], []).append(variant["name"])
    found = ((read_attachment(folder / file, folder), file, names) for file, names in variants.items())
    return [(one, file, names) for one, file, names in found if one is not None]
