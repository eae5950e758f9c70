"""A report as files: JSON for programs, HTML for people, Markdown for a pull request."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from deploykit.base.artifact import manifest_path
from deploykit.base.atomic import write_json, write_text
from deploykit.base.errors import BadInput
from deploykit.reporting.read import plain, validate
from deploykit.reporting.schema import Report


def write_report(report: Report, folder: Path) -> list[Path]:
    """Check a report and write ``report.json``, ``report.html`` and ``report.md`` into ``folder``.

    Args:
        report: what was set after it was made is checked too; numpy scalars are taken, NaN and infinities become null.
        folder: exists; the raw samples that the report names are read from it.

    Returns:
        The three paths.

    Raises:
        BadInput: the report does not fit its schema, or the folder cannot be written.
        SystemTrouble: the disk is full.
    """
    checked = validate(plain(report.model_dump(by_alias=True, warnings=False)))
    write_json(folder / "report.json", checked.plain())
    return [folder / "report.json", *write_pages(checked, folder, folder)]


def write_pages(report: Report, folder: Path, samples_folder: Path) -> list[Path]:
    """Write only the two readable forms of a checked report.

    Args:
        report: checked.
        folder: to write into.
        samples_folder: what the report's ``samples_file`` are relative to.
    """
    from deploykit.reporting.html import to_html
    from deploykit.reporting.markdown import to_markdown

    write_text(folder / "report.html", marked(to_html(report, samples_folder)))
    write_text(folder / "report.md", marked(to_markdown(report)))
    return [folder / "report.html", folder / "report.md"]


_MARK = re.compile(rb"<!-- deploykit report page, sha256 ([0-9a-f]{64}) -->\n\Z")


def marked(page: str) -> str:
    """The page with a last line that lets :func:`is_ours` tell it from others and from an edited one."""
    page = page.rstrip("\n") + "\n"
    digest = hashlib.sha256(page.encode()).hexdigest()
    return f"{page}<!-- deploykit report page, sha256 {digest} -->\n"


def is_ours(path: Path) -> bool:
    """Whether a page was written by :func:`write_pages` and not changed since."""
    content = path.read_bytes()
    found = _MARK.search(content)
    return found is not None and hashlib.sha256(content[: found.start()]).hexdigest().encode() == found.group(1)


def refuse_foreign_pages(folder: Path, names: tuple[str, ...] = ("report.html", "report.md")) -> None:
    """Check that the pages ``names`` in ``folder`` may be replaced: there are none, or ours, unchanged.

    Raises:
        BadInput: a page was not made by deploykit, or was changed since.
    """
    for name in names:
        if (folder / name).exists() and not is_ours(folder / name):
            raise BadInput(
                f"{folder / name} was not made by deploykit, or was changed since",
                fix="Choose another -o, or pass --force.",
            )


_PARTS = ("logits", "samples", "thumbnails")
"""Folders that an interrupted report leaves."""


def refuse_foreign_folder(folder: Path) -> None:
    """Check that a report with its folders may be written into ``folder``: it is empty, or deploykit made something there.

    Raises:
        BadInput: a page was not made by deploykit or was changed since, or nothing that is there was made by it.
    """
    refuse_foreign_pages(folder)
    there = sorted(one.name for one in folder.iterdir() if not one.name.startswith(".") and one.name not in _PARTS)
    known = {"report.json", "report.html", "report.md", "lock"}  # pages are ours by now; a lock lies in a run folder
    if there and not any(name in known or manifest_path(folder / name).exists() for name in there):
        raise BadInput(
            f"{folder} holds files that deploykit did not make",
            got=", ".join(there[:3]) + (" …" if len(there) > 3 else ""),
            fix="Choose another -o, or pass --force.",
        )
