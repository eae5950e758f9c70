"""Accuracy of artifacts on the same images: collect logits once, judge them as often as wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploykit.base.artifact import (
    Manifest,
    Parent,
    already_made,
    artifact_sha256,
    files_of,
    write_manifest,
)
from deploykit.base.atomic import JsonObject, make_folder
from deploykit.base.command_result import Result
from deploykit.base.environment import MEASURED_BY, library_versions
from deploykit.base.errors import BadInput, unknown
from deploykit.base.progress import SILENT, Progress
from deploykit.base.spec import Spec
from deploykit.benchmarking.accuracy_report import accuracy_report, data_name
from deploykit.benchmarking.run_folder import listed, run_folder_of, unique_specs
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.config.evaluate import EvaluateConfig
from deploykit.config.keywords import by_keywords
from deploykit.evaluation.metrics import load_metrics
from deploykit.reporting.read import read_report
from deploykit.reporting.schema import Report
from deploykit.reporting.terminal import accuracy_table
from deploykit.reporting.write import refuse_foreign_folder, write_report

if TYPE_CHECKING:
    pass

STAGE_VERSION = 1


@by_keywords(EvaluateConfig, modules=("artifacts",))
def evaluate(
    artifacts: Sequence[str | Spec | Path] | str | Spec | Path,
    output: Path | str | None = None,
    config: EvaluateConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> EvaluateResult:
    """Measure the accuracy of artifacts on the same images, and compare them with a baseline image by image.

    Args:
        artifacts: ``[NAME=]PATH[@TARGET[:key=value,…]]``, one or more; or a run folder, whose saved logits are judged
            again without inference.
        output: folder for ``report.json``, ``.html``, ``.md`` and ``logits/``, made if missing; None: nothing is written.
        config: data, split, batch, baseline, custom metrics …; its ``metrics`` and ``module:`` data run as user code.
        force: replace files that deploykit did not make.
        progress: shows one bar per artifact.

    Raises:
        BadInput: unknown names, two artifacts of one name, models that are no classifiers, classes that do not fit.
        Unavailable: this machine lacks what a target needs.
    """
    from deploykit.data import open_data

    artifacts = listed(artifacts)
    run = run_folder_of(artifacts)
    if run is not None:
        return _again(run, output, config or EvaluateConfig(), force=force, progress=progress)
    if config is None or config.data is None:
        raise BadInput("evaluate needs data", fix="Name it: --data digits, or data='digits' in Python.")
    specs = unique_specs(artifacts)
    baseline = _baseline(specs, config.baseline)
    metrics = load_metrics(config.metrics)
    source = open_data(config.data, allow_code=True, skip_broken=config.skip_broken, progress=progress)
    source.need_labels("evaluation")
    split = source.split(config.split)
    folder = None if output is None else Path(output)
    manifest = None
    if folder is not None:
        manifest = _manifest(specs, split.sha256, config)
        if _made_before(folder, manifest.key, force=force):
            progress.say(f"{folder}: this evaluation was done before, nothing to do")
            return EvaluateResult(read_report(folder / "report.json"), folder)
    report = accuracy_report(specs, baseline, source, metrics, config, folder, progress)
    if folder is not None and manifest is not None:
        write_report(report, folder)
        files = files_of(folder / "report.json")
        write_manifest(folder / "report.json", replace(manifest, files=files))
    return EvaluateResult(report, folder)


def _again(
    run: Path, output: Path | str | None, config: EvaluateConfig, *, force: bool, progress: Progress
) -> EvaluateResult:
    from deploykit.benchmarking.reevaluate import rejudge, write_rejudged

    if config.data is not None or config.corruptions or config.images is not None:
        raise BadInput(
            f"{run} is a run folder, whose saved logits are judged again",
            got="--data, --images or --corruptions, which need inference",
            fix="Leave them out, or name the artifacts.",
        )
    folder = None if output is None else Path(output)
    if folder is not None:
        _made_before(folder, "", force=force)
    report = rejudge(run, config, progress)
    if folder is not None:
        write_rejudged(report, run, folder, config)
    return EvaluateResult(report, folder)


def refuse_stored_code(config: EvaluateConfig | BenchmarkConfig, where: str) -> None:
    """Check that a stored configuration names no user code that its maker did not allow.

    Raises:
        BadInput: it names what would run.
    """
    from deploykit.data.forms import names_code

    data = config.data or ""
    named = [*config.metrics, *([data] if names_code(data) else [])]
    if named and not config.allow_code:
        raise BadInput(
            f"{where} names Python code: {', '.join(named)}", fix="If you trust it, set allow_code: true in it."
        )


def _baseline(specs: Sequence[Spec], wanted: str | None) -> str:
    names = [spec.name for spec in specs]
    if wanted is not None and wanted not in names:
        raise unknown("baseline", wanted, names)
    return wanted or names[0]


def _manifest(specs: Sequence[Spec], data_sha256: str, config: EvaluateConfig) -> Manifest:
    for spec in specs:
        if not spec.path.is_file():
            raise BadInput(f"{spec.path} does not exist", fix="Check the path.")
    parents = [Parent("artifact", artifact_sha256(spec.path), name=_identity(spec)) for spec in specs]
    named = {**config.plain(), "data": data_name(config), "artifacts": [_identity(spec) for spec in specs]}
    return Manifest(
        kind="report",
        files={},
        stage="evaluate",
        version=STAGE_VERSION,
        config=named,
        parents=(*parents, Parent("data", data_sha256, name=data_name(config))),
        versions=library_versions(MEASURED_BY),
    )


def _identity(spec: Spec) -> str:
    return str(replace(spec, path=Path(spec.path.name)))


def _made_before(folder: Path, key: str, *, force: bool) -> bool:
    """Make the folder, and whether this very evaluation lies there already.

    Raises:
        BadInput: the folder cannot be made, or holds files that deploykit did not make.
    """
    make_folder(folder)
    if already_made(folder / "report.json", key, force=force):
        return True
    if not force:
        refuse_foreign_folder(folder)
    return False


@dataclass(frozen=True)
class EvaluateResult(Result):
    """What was found.

    Attributes:
        report: without timings.
        folder: where it was written, or None.
    """

    report: Report
    folder: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether every variant could be judged."""
        return all(variant.status == "ok" for variant in self.report.variants)

    def to_dict(self) -> JsonObject:
        """JSON-able fields: the data, the baseline, the variants with their accuracy, and where the report is."""
        keys = ("data", "ci_level", "seed", "baseline", "warnings", "variants")
        place = None if self.folder is None else str(self.folder / "report.json")
        fields = self.report.plain()
        return {**{key: fields[key] for key in keys}, "report": place}

    def summary(self) -> str:
        """The table for people."""
        return accuracy_table(self.report) + ("" if self.folder is None else f"\nreport: {self.folder / 'report.html'}")

    def _repr_html_(self) -> str:
        from deploykit.reporting.html import framed

        return framed(self.report, self.folder)
