"""Latency, parity and accuracy of variants measured together, and the report of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploykit.base.atomic import JsonObject
from deploykit.base.command_result import Result
from deploykit.base.errors import BadInput, unknown
from deploykit.base.progress import SILENT, Progress
from deploykit.base.spec import Spec
from deploykit.benchmarking.run_folder import listed, run_folder_of, specs_of_run, unique_specs
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.config.keywords import by_keywords

if TYPE_CHECKING:
    from deploykit.reporting.schema import Report

STAGE_VERSION = 1


@dataclass(frozen=True)
class BenchmarkResult(Result):
    """What was measured.

    Attributes:
        report: the whole of it.
        folder: where it was written, or None.
    """

    report: Report
    folder: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether no variant failed that is not accepted; a skipped or unsure one is no failure."""
        return all(variant.status != "failed" or variant.accepted for variant in self.report.variants)

    def to_dict(self) -> JsonObject:
        """JSON-able fields: the whole report (``deploykit.report/2``), and where it is."""
        return {
            "report": self.report.plain(),
            "folder": None if self.folder is None else str(self.folder),
            "failed": [one.name for one in self.report.variants if one.status == "failed"],
        }

    def summary(self) -> str:
        """The table for people."""
        from deploykit.reporting.terminal import speed_table

        where = "" if self.folder is None else f"\nreport: {self.folder / 'report.html'}"
        return speed_table(self.report) + where

    def _repr_html_(self) -> str:
        from deploykit.reporting.html import framed

        return framed(self.report, self.folder)


@by_keywords(BenchmarkConfig, modules=("artifacts",))
def benchmark(
    artifacts: Sequence[str | Spec | Path] | str | Spec | Path,
    output: Path | str | None = None,
    config: BenchmarkConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> BenchmarkResult:
    """Verify, judge and time artifacts together: parity first, then accuracy, then interleaved latency.

    Without data any graph is timed on random input, and verified on it where its outputs fit its reference's.
    Each variant is timed in a process of its own; a script that calls this needs the usual
    ``if __name__ == "__main__":`` guard. What fails or is unsure is timed all the same, and marked.

    Args:
        artifacts: ``[NAME=]PATH[@TARGET[:key=value,…]]``, one or more; or a run folder, whose variants are measured again.
        output: run folder for ``report.json``, ``.html``, ``.md``, ``samples/`` and ``logits/``, made if missing; None:
            nothing is written.
        config: data (or the shapes of random input), baseline, batch, threads, limits …; its ``metrics`` and ``module:`` data run as user code.
        force: replace files that deploykit did not make.
        progress: where it shows.

    Raises:
        BadInput: unknown or doubled names, broken files, models that are no classifiers of the data, free sizes that nothing names.
        Unavailable: this machine lacks what the baseline, or the only artifact, needs; others are skipped.
    """
    from deploykit.benchmarking.against import other_side
    from deploykit.benchmarking.side_by_side import side_by_side
    from deploykit.engines import resolve

    config = config or BenchmarkConfig()
    artifacts = listed(artifacts)
    run = run_folder_of(artifacts)
    specs = [resolve(spec, config.device) for spec in (named_specs(artifacts) if run is None else specs_of_run(run))]
    baseline = baseline_of(specs, config.baseline)
    for name in config.accept_variants:
        if name not in (names := [spec.name for spec in specs]):
            raise unknown("variant to accept", name, names)
    folder = None if output is None else Path(output)
    if config.against is None:
        report = side_by_side(specs, baseline, folder, config, STAGE_VERSION, force=force, progress=progress)
        return BenchmarkResult(report, folder)
    names = [spec.name for spec in specs]
    with other_side(config.against, names, run, allow_code=config.allow_code, progress=progress) as other:
        both = [*specs, *(resolve(spec, config.device) for spec in other.specs)]
        report = side_by_side(
            both, baseline, folder, config, STAGE_VERSION, against=other.name, force=force, progress=progress
        )
    return BenchmarkResult(report, folder)


def named_specs(artifacts: Sequence[str | Spec | Path]) -> list[Spec]:
    """The artifacts taken apart; their names become file names.

    Raises:
        BadInput: none, two of one name, or a name with a slash.
    """
    specs = unique_specs(artifacts)
    for spec in specs:
        if "/" in spec.name or "\\" in spec.name or spec.name in ("", ".", ".."):
            raise BadInput(f"a variant cannot be called {spec.name!r}", expected="a name without slashes")
    return specs


def baseline_of(specs: Sequence[Spec], wanted: str | None) -> str:
    """The baseline's name: as asked for, else ``fp32`` where present, else the first.

    Raises:
        BadInput: not among the variants; lists them.
    """
    names = [spec.name for spec in specs]
    if wanted is not None and wanted not in names:
        raise unknown("baseline", wanted, names)
    return wanted or ("fp32" if "fp32" in names else names[0])
