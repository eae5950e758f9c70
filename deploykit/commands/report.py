"""Write the readable forms of a report again from its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploykit.base.atomic import make_folder
from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress

STAGE_VERSION = 1


@dataclass(frozen=True)
class ReportResult:
    """What was written.

    Attributes:
        files: the HTML and the Markdown page.
        headline: the report in one sentence.
        pick: name of the variant to deploy, or None.
    """

    files: tuple[Path, ...]
    headline: str
    pick: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields."""
        return {"files": [str(path) for path in self.files], "headline": self.headline, "pick": self.pick}

    def summary(self) -> str:
        """The headline and where the pages are."""
        return "\n".join([self.headline, *(f"wrote {path}" for path in self.files)])


def report(
    source: Path | Sequence[Path], output: Path | None = None, *, force: bool = False, progress: Progress = SILENT
) -> ReportResult:
    """Write ``report.html`` and ``report.md`` from a ``report.json``.

    Args:
        source: a run folder or a ``report.json``.
        output: folder of the pages, made if missing; None: beside the report.
        force: replace pages of other makers.
        progress: unused, there is nothing to wait for.

    Raises:
        BadInput: several reports, one that does not fit its schema, or pages there that we did not make.
    """
    from deploykit.reporting.read import read_report
    from deploykit.reporting.view import headline
    from deploykit.reporting.write import refuse_foreign_pages, write_pages

    sources = [Path(source)] if isinstance(source, str | Path) else [Path(one) for one in source]
    if len(sources) != 1:
        raise BadInput(
            "deploykit report takes one report", got=f"{len(sources)} of them", fix="Call it once for each of them."
        )
    place = sources[0]
    found = read_report(place)
    home = place if place.is_dir() else place.parent
    folder = home if output is None else Path(output)
    make_folder(folder)
    if not force:
        refuse_foreign_pages(folder)
    files = write_pages(found, folder, home)
    chosen = found["pick"]["name"] if found["pick"] else None
    return ReportResult(tuple(files), headline(found), chosen)
