"""What stages hand to the report: ``FILE.attachments.json`` beside an artifact, gathered when it is measured, read when it is shown.

The file is no part of the artifact's identity: what it shows (curves, times) may differ between runs that make the same
bytes. It names the hash of the file it speaks of, so that one left over from an earlier artifact is not shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit.base.artifact import artifact_sha256, attachments_path, is_unmodified, read_manifest
from deploykit.base.atomic import write_json
from deploykit.base.errors import BadInput
from deploykit.base.hashing import file_sha256, value_sha256
from deploykit.reporting.attachments.kinds import SCHEMA, Attachment, checked
from deploykit.reporting.schema import Attachment as Named
from deploykit.reporting.schema import Report

if TYPE_CHECKING:
    from deploykit.reporting.attachments import Attachment

LIST_SCHEMA = "deploykit.attachments/1"
MOST = 32


def attach(artifact: Path, attachments: Sequence[Attachment], *, force: bool = False) -> None:
    """Put attachments beside ``artifact``; call it when the artifact's file is in place, before its manifest.

    Without attachments, those of an earlier artifact are taken away.

    Raises:
        BadInput: the place holds a file that is not ours.
    """
    place = attachments_path(artifact)
    if place.exists() and not force:
        before = read_json(place, place.parent)
        if not isinstance(before, dict) or before.get("schema") != LIST_SCHEMA:
            raise BadInput(f"{place} exists and was not made by deploykit", fix="Move it away, or pass --force.")
    if not attachments:
        place.unlink(missing_ok=True)
        return
    if len(attachments) > MOST:
        raise BadInput("too many attachments", got=len(attachments), expected=f"at most {MOST}")
    items = [one.plain() for one in attachments]
    write_json(place, {"schema": LIST_SCHEMA, "of": file_sha256(artifact), "items": items})


def attached(artifact: Path) -> list[Attachment]:
    """What is attached to an artifact, and the analysis of it that lies beside it; what does not fit is left out."""
    from deploykit.reporting.attachments.kinds import checked

    place = attachments_path(artifact)
    fields = read_json(place, place.parent)
    found = []
    if (
        isinstance(fields, dict)
        and fields.get("schema") == LIST_SCHEMA
        and isinstance(fields.get("items"), list)
        and fields.get("of") == file_sha256(artifact)
    ):
        for number, item in enumerate(fields["items"][:MOST]):
            try:
                found.append(checked(item, f"{place.name}, item {number}"))
            except (BadInput, RecursionError):
                continue
    return [*found, *_analysis(artifact)]


def _analysis(artifact: Path) -> list[Attachment]:
    """``MODEL.analysis.json`` as ``quantize --analyze`` writes it beside the model, if it is whole and of this model."""
    from deploykit.reporting.attachments import sensitivity

    place = artifact.with_name(f"{artifact.stem}.analysis.json")
    if not place.is_file():
        return []
    try:
        manifest = read_manifest(place)
        if manifest is None or not is_unmodified(place, manifest):
            return []
        if manifest.parents[0].sha256 != artifact_sha256(artifact):
            return []
        analysis = read_json(place, place.parent)
        title = f"Sensitivity of {artifact.stem} to int8, layer by layer"
        return [sensitivity(title, "analyze", analysis if isinstance(analysis, dict) else {})]
    except (BadInput, IndexError):
        return []


def gather(paths: Sequence[Path], folder: Path) -> list[Named]:
    """Write what is attached to a chain of artifacts into ``folder``'s ``attachments/``.

    Args:
        paths: of the artifacts, the oldest first.
        folder: of the report.

    Returns:
        The report's ``attachments`` of a variant with this chain; equal attachments of several share one file.
    """
    found: dict[str, Named] = {}
    for path in paths:
        for one in attached(path):
            plain = one.plain()
            slug = re.sub(r"[^a-z0-9]+", "-", f"{one.stage} {one.title}".lower()).strip("-")[:60]
            file = f"attachments/{slug}-{value_sha256(plain)[:8]}.json"
            if file not in found:
                (folder / "attachments").mkdir(exist_ok=True)
                write_json(folder / file, plain)
                found[file] = Named(title=one.title, kind=one.kind, file=file)
    return list(found.values())


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


def attachments_of(report: Report, folder: Path) -> list[tuple[Attachment, str, list[str]]]:
    """Attachment, its file, and the variants that have it; each file once, in the order of the report."""
    variants: dict[str, list[str]] = {}
    for variant in report.variants:
        for one in variant.attachments:
            variants.setdefault(one.file, []).append(variant.name)
    found = ((read_attachment(folder / file, folder), file, names) for file, names in variants.items())
    return [(one, file, names) for one, file, names in found if one is not None]


def shown(report: Report, folder: Path) -> list[dict[str, object]]:
    """One dictionary per attachment that can be drawn; see ``templates/attachments.html``."""
    found = []
    for one, file, variants in attachments_of(report, folder):
        every = len(variants) == len(report.variants) > 1
        about = {"title": one.title, "stage": one.stage, "note": one.note, "file": file}
        whose = "every variant" if every else ", ".join(variants)
        found.append({**one.content().shown(one.title), **about, "of": whose})
    return found
