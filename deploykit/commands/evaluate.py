"""Accuracy of artifacts on the same images: collect logits once, judge them as often as wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.base.artifact import (
    Manifest,
    Parent,
    already_made,
    artifact_of,
    artifact_sha256,
    files_of,
    safe_name,
    write_manifest,
)
from deploykit.base.atomic import make_folder
from deploykit.base.command_result import Result
from deploykit.base.environment import describe, library_versions
from deploykit.base.errors import AnswerNo, BadInput, unknown
from deploykit.base.lineage import chain_of
from deploykit.base.progress import SILENT, Progress
from deploykit.base.spec import Spec, parse_spec
from deploykit.benchmarking.run_folder import is_run
from deploykit.benchmarking.thumbnails import leave_thumbnails
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.config.evaluate import EvaluateConfig
from deploykit.config.keywords import by_keywords
from deploykit.evaluation.metrics import Metric, judge, load_metrics
from deploykit.evaluation.robustness import Answers, corrupted_answers, judge_corrupted
from deploykit.evaluation.run_classifier import collect_logits, in_data_order, preprocessing_of
from deploykit.reporting.read import plain, read_report, validate
from deploykit.reporting.rows import accuracy_table
from deploykit.reporting.schema import SCHEMA
from deploykit.reporting.write import refuse_foreign_pages, write_report

if TYPE_CHECKING:
    from deploykit.data import DataSource, Split

__all__ = ["EvaluateResult", "collect_logits", "evaluate", "in_data_order", "judge", "preprocessing_of"]

STAGE_VERSION = 1


@by_keywords(EvaluateConfig)
def evaluate(
    artifacts: Sequence[str | Spec],
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

    run = run_folder_of(artifacts)
    if run is not None:
        return _again(run, output, config or EvaluateConfig(), force=force, progress=progress)
    if config is None or config.data is None:
        raise BadInput("evaluate needs data", fix="Name it: --data digits, or data='digits' in Python.")
    specs = unique_specs(artifacts)
    baseline = _baseline(specs, config.baseline)
    metrics = load_metrics(config.metrics)
    source = open_data(config.data, allow_code=True, skip_broken=config.skip_broken, progress=progress)
    split = source.split(config.split)
    folder = None if output is None else Path(output)
    manifest = None
    if folder is not None:
        manifest = _manifest(specs, split.sha256, config)
        if _made_before(folder, manifest.key, force=force):
            progress.say(f"{folder}: this evaluation was done before, nothing to do")
            return EvaluateResult(read_report(folder / "report.json"), folder)
    variants: dict[str, dict[str, Any]] = {}
    base_logits: np.ndarray | None = None
    base_answers: Answers | None = None
    for spec in sorted(specs, key=lambda one: one.name != baseline):
        base = (base_logits, base_answers)
        variant, logits, answers = _measure(spec, source, split, base, config, metrics, folder, progress)
        variants[spec.name] = variant
        if spec.name == baseline:
            base_logits, base_answers = logits, answers
    report = _report([variants[spec.name] for spec in specs], baseline, split, config)
    if base_logits is None and len(specs) > 1:
        report["warnings"].append(f"the baseline {baseline} failed, so nothing could be compared with it")
    report = validate(plain(report))
    if folder is not None and manifest is not None:
        write_report(report, folder)
        files = files_of(folder / "report.json")
        write_manifest(folder / "report.json", replace(manifest, files=files))
    return EvaluateResult(report, folder)


def _again(
    run: Path, output: Path | str | None, config: EvaluateConfig, *, force: bool, progress: Progress
) -> EvaluateResult:
    from deploykit.benchmarking.reevaluate import rejudge, write_rejudged

    if config.data is not None or config.corruptions or config.limit is not None:
        raise BadInput(
            f"{run} is a run folder, whose saved logits are judged again",
            got="--data, --limit or --corruptions, which need inference",
            fix="Leave them out, or name the artifacts.",
        )
    folder = None if output is None else Path(output)
    if folder is not None:
        _made_before(folder, "", force=force)
    report = rejudge(run, config, progress)
    if folder is not None:
        write_rejudged(report, run, folder, config)
    return EvaluateResult(report, folder)


def run_folder_of(artifacts: Sequence[str | Spec]) -> Path | None:
    """The run folder that is meant, where it is all that was named."""
    if len(artifacts) != 1 or not isinstance(artifacts[0], str):
        return None
    path = Path(artifacts[0])
    return path if is_run(path) else None


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


def unique_specs(artifacts: Sequence[str | Spec]) -> list[Spec]:
    """The artifacts taken apart.

    Raises:
        BadInput: none, or two of one name.
    """
    specs = [parse_spec(one) if isinstance(one, str) else one for one in artifacts]
    if not specs:
        raise BadInput("no artifact to evaluate", expected="[NAME=]PATH[@TARGET]")
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"two artifacts are called {name!r}", fix=f"Name them: {name}-a=PATH {name}-b=PATH.")
    return specs


def _baseline(specs: Sequence[Spec], wanted: str | None) -> str:
    names = [spec.name for spec in specs]
    if wanted is not None and wanted not in names:
        raise unknown("baseline", wanted, names)
    return wanted or names[0]


def _measure(
    spec: Spec,
    source: DataSource,
    split: Split,
    base: tuple[np.ndarray | None, Answers | None],
    config: EvaluateConfig,
    metrics: Mapping[str, Metric],
    folder: Path | None,
    progress: Progress,
) -> tuple[dict[str, Any], np.ndarray | None, Answers | None]:
    """One variant of the report, its logits (None where it failed) and its answers to corrupted pictures.

    ``base`` holds both of the baseline, None while it is judged itself.
    """
    from deploykit.engines import open_runner
    from deploykit.evaluation.logits import SavedLogits, save_logits

    chain = chain_of(spec.path, folder)
    with open_runner(
        spec, threads=config.threads, device=config.device, size=config.size, allow_code=config.allow_code
    ) as runner:
        variant = {
            "name": spec.name,
            "target": runner.target,
            "precision": runner.precision,
            "status": "ok",
            "steps": list(chain.steps),
            "notes": list(chain.notes),
            "artifact": artifact_of(spec.path, folder),
        }
        preprocessing = preprocessing_of(runner, source, config.size, spec.name, progress)
        logits = collect_logits(
            runner, split, config.batch, config.limit, progress, name=spec.name, preprocessing=preprocessing
        )
        answers = None
        if config.corruptions and np.isfinite(logits).all():
            answers = corrupted_answers(
                runner,
                split,
                preprocessing,
                config.corruption_images,
                config.batch,
                config.seed,
                progress,
                name=spec.name,
            )
    chosen = split.chosen(config.limit)
    labels = split.labels[chosen]
    try:
        judged = judge(
            logits,
            labels,
            base[0],
            config.ci_level,
            config.seed,
            name=spec.name,
            metrics=metrics,
            classes=tuple(split.classes),
            images=chosen,
        )
    except AnswerNo as error:
        progress.warn(error.line())
        return {**variant, "status": "failed", "reason": error.line()}, None, None
    if answers is not None:
        known = split.labels[split.chosen(config.corruption_images)]
        judged["robustness"] = judge_corrupted(answers, base[1], known, config.ci_level, config.seed)
    if folder is not None:
        leave_thumbnails([judged], split, folder)
        (folder / "logits").mkdir(exist_ok=True)
        place = f"logits/{safe_name(spec.name)}.npz"
        save_logits(folder / place, SavedLogits(logits, labels, split.sha256, tuple(split.classes)))
        judged["logits_file"] = place
    return {**variant, "accuracy": judged}, logits, answers


def _report(variants: list[dict[str, Any]], baseline: str, split: Split, config: EvaluateConfig) -> dict[str, Any]:
    n = len(split.chosen(config.limit))
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe(),
        "data": {"name": _data_name(config), "split": config.split, "n": n, "sha256": split.sha256},
        "ci_level": config.ci_level,
        "seed": config.seed,
        "warnings": [],
        "baseline": baseline,
        "variants": variants,
    }


def _manifest(specs: Sequence[Spec], data_sha256: str, config: EvaluateConfig) -> Manifest:
    for spec in specs:
        if not spec.path.is_file():
            raise BadInput(f"{spec.path} does not exist", fix="Check the path.")
    parents = [Parent("artifact", artifact_sha256(spec.path), name=_identity(spec)) for spec in specs]
    named = {**config.plain(), "data": _data_name(config), "artifacts": [_identity(spec) for spec in specs]}
    return Manifest(
        kind="report",
        files={},
        stage="evaluate",
        version=STAGE_VERSION,
        config=named,
        parents=(*parents, Parent("data", data_sha256, name=_data_name(config))),
        versions=library_versions(("torch", "onnxruntime", "onnxruntime-gpu", "numpy")),
    )


def _data_name(config: EvaluateConfig) -> str:
    assert config.data is not None
    return Path(config.data).name


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
        refuse_foreign_pages(folder)
    return False


@dataclass(frozen=True)
class EvaluateResult(Result):
    """What was found.

    Attributes:
        report: as of ``deploykit.report/1``, without timings.
        folder: where it was written, or None.
    """

    report: dict[str, Any]
    folder: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether every variant could be judged."""
        return all(variant["status"] == "ok" for variant in self.report["variants"])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields: the data, the baseline, the variants with their accuracy, and where the report is."""
        keys = ("data", "ci_level", "seed", "baseline", "warnings", "variants")
        place = None if self.folder is None else str(self.folder / "report.json")
        return {**{key: self.report[key] for key in keys}, "report": place}

    def summary(self) -> str:
        """The table for people."""
        return accuracy_table(self.report) + ("" if self.folder is None else f"\nreport: {self.folder / 'report.html'}")
