"""Write the readable forms of a report again from its JSON, or compare several reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploykit.base.artifact import Manifest, Parent, already_made, files_of, write_manifest
from deploykit.base.atomic import JsonObject, make_folder
from deploykit.base.command_result import Result
from deploykit.base.errors import BadInput
from deploykit.base.hashing import file_sha256
from deploykit.base.progress import SILENT, Progress
from deploykit.benchmarking.layer_profiles import LayersResult
from deploykit.config.keywords import by_keywords
from deploykit.config.report import ReportConfig

STAGE_VERSION = 1


@dataclass(frozen=True)
class ReportResult(Result):
    """What was written.

    Attributes:
        files: the pages.
        headline: the report, or the comparison, in one sentence.
        pick: name of the variant to deploy (of the newest report), or None.
    """

    files: tuple[Path, ...]
    headline: str
    pick: str | None

    def to_dict(self) -> JsonObject:
        """JSON-able fields."""
        return {"files": [str(path) for path in self.files], "headline": self.headline, "pick": self.pick}

    def summary(self) -> str:
        """The headline and where the pages are."""
        return "\n".join([self.headline, *(f"wrote {path}" for path in self.files)])


@by_keywords(ReportConfig)
def report(
    source: Path | str | Sequence[Path | str],
    output: Path | str | None = None,
    config: ReportConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> ReportResult | LayersResult:
    """Write the pages of a ``report.json`` again, or compare several of them over time and machines.

    Args:
        source: a run folder or a ``report.json``, or several.
        output: folder of the pages, made if missing; None: beside the one report.
        config: what is shown.
        force: replace pages of other makers.
        progress: where it tells what it does.

    Returns:
        Of one report its pages; of several ``comparison.html``, ``.md`` and ``.json``; with ``layers`` the profiles.

    Raises:
        BadInput: a report that does not fit its schema, reports without a common variant, or pages there that we did not
            make.
    """
    sources = [Path(source)] if isinstance(source, str | Path) else [Path(one) for one in source]
    if not sources:
        raise BadInput("no report", expected="a run folder or report.json, or several")
    if config is not None and config.layers:
        if output is None:
            raise BadInput("where the profiles go is not known", fix="Name a folder with -o.")
        from deploykit.benchmarking.layer_profiles import layers

        return layers(sources, Path(output), force=force, progress=progress)
    return _pages(sources[0], output, force) if len(sources) == 1 else _compared(sources, output, force, progress)


def _pages(place: Path, output: Path | str | None, force: bool) -> ReportResult:
    from deploykit.reporting.headline import headline
    from deploykit.reporting.read import read_report
    from deploykit.reporting.write import refuse_foreign_pages, write_pages

    found = read_report(place)
    home = place if place.is_dir() else place.parent
    folder = home if output is None else Path(output)
    make_folder(folder)
    if not force:
        refuse_foreign_pages(folder)
    files = write_pages(found, folder, home)
    chosen = found.pick.name if found.pick else None
    return ReportResult(tuple(files), headline(found), chosen)


def _compared(sources: Sequence[Path], output: Path | str | None, force: bool, progress: Progress) -> ReportResult:
    from deploykit.reporting.compare import compare, labels_of
    from deploykit.reporting.compare_pages import NAMES, headline, write_comparison
    from deploykit.reporting.read import read_report
    from deploykit.reporting.write import refuse_foreign_pages

    if output is None:
        raise BadInput("where the comparison of several reports goes is not known", fix="Name a folder with -o.")
    found = compare([read_report(place) for place in sources], labels_of(sources))
    folder = Path(output)
    make_folder(folder)
    if not force:
        refuse_foreign_pages(folder, NAMES[:2])
        already_made(folder / NAMES[2], "", force=False)
    for warning in found.warnings:
        progress.warn(warning)
    files = write_comparison(found, folder)
    parents = tuple(
        Parent("report", file_sha256(place / "report.json" if place.is_dir() else place)) for place in sources
    )
    write_manifest(
        folder / NAMES[2], Manifest("comparison", files_of(*files), "report", STAGE_VERSION, parents=parents)
    )
    return ReportResult(tuple(files), headline(found), found.runs[-1].pick)
