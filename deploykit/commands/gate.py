"""Judge a report against a policy and an older report: pass, fail or cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploykit.base.artifact import Manifest, Parent, already_made, files_of, write_manifest
from deploykit.base.atomic import JsonObject, make_folder
from deploykit.base.command_result import Result
from deploykit.base.hashing import file_sha256
from deploykit.base.progress import SILENT, Progress
from deploykit.config.gate import GateConfig, GatePolicy
from deploykit.config.keywords import by_keywords

if TYPE_CHECKING:
    from deploykit.base.spec import Spec
    from deploykit.config.benchmark import BenchmarkConfig
    from deploykit.gating.result import Gate
    from deploykit.reporting.schema import Report

STAGE_VERSION = 1


@dataclass(frozen=True)
class GateResult(Result):
    """The verdict, and where its forms were written.

    Attributes:
        gate: the verdict with every limit.
        files: that were written.
    """

    gate: Gate
    files: tuple[Path, ...] = ()

    @property
    def status(self) -> str:
        """``ok``, ``failed`` or ``cannot_tell``."""
        return {"pass": "ok", "fail": "failed"}.get(self.gate.verdict, self.gate.verdict)

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 cannot tell."""
        return self.gate.exit_code

    def to_dict(self) -> JsonObject:
        """JSON-able fields."""
        return {**self.gate.to_dict(), "files": [str(path) for path in self.files]}

    def summary(self) -> str:
        """The verdict for people."""
        return "\n".join([self.gate.summary(), *(f"wrote {path}" for path in self.files)])


@by_keywords(GateConfig)
def gate(
    report: Path | str,
    output: Path | str | None = None,
    config: GateConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> GateResult:
    """Judge a report.

    Each limit is an interval test at a level that Holm's correction over all limits gives it: failed when the whole
    interval is beyond the limit, passed when it is within, else undecided, with what would settle it. Any limit failed
    is a fail; else any undecided is "cannot tell"; else pass. Milliseconds are never compared across reports.

    Args:
        report: run folder or ``report.json``; raw samples and logits are used where they lie beside it.
        output: folder for ``gate.json``, ``gate.md`` (the comment), ``gate.junit.xml``, ``gate.metrics.txt`` (GitLab),
            ``gate.action-benchmark.json`` and ``gate.bencher.json``, made if missing; None: nothing is written.
        config: policy, baseline report, retries.
        force: replace files that deploykit did not make.
        progress: where it tells what it does.

    Raises:
        BadInput: no report, a policy with errors, a baseline of other data.
    """
    from deploykit.config.gate import load_policy
    from deploykit.gating.evidence import read_evidence
    from deploykit.gating.judge_report import looked
    from deploykit.gating.metric_values import metrics_of
    from deploykit.gating.outputs import annotate, on_github, write_forms

    config = config or GateConfig()
    policy = config.policy if isinstance(config.policy, GatePolicy) else load_policy(config.policy)
    place = Path(report)
    new = read_evidence(place, policy.measurement, progress)
    old = None if config.baseline is None else read_evidence(Path(config.baseline), policy.measurement, progress)
    folder = None if output is None else Path(output)
    if folder is not None:
        make_folder(folder)
        already_made(folder / "gate.json", "", force=force)

    def benchmarked(artifacts: Sequence[Spec], folder: Path, asked: BenchmarkConfig) -> Report:
        from deploykit.commands.benchmark import benchmark

        return benchmark(artifacts, folder, asked, progress=progress).report

    found = looked(place, new, old, policy, config, benchmarked, progress)
    files = () if folder is None else write_forms(folder, found, metrics_of(new))
    if folder is not None:
        parents = (Parent("report", file_sha256(place / "report.json" if place.is_dir() else place)),)
        stored = {"policy": policy.plain(), "retry": config.retry}
        write_manifest(
            folder / "gate.json",
            Manifest("gate", files_of(*files), "gate", STAGE_VERSION, config=stored, parents=parents),
        )
    if config.annotations == "github" or (config.annotations == "auto" and on_github()):
        annotate(found)
    return GateResult(found, files)
