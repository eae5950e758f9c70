"""The report of an evaluation: every artifact's accuracy on the same images, without timings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from deploykit.base.artifact import artifact_of, read_manifest
from deploykit.base.environment import describe
from deploykit.base.errors import AnswerNo
from deploykit.base.lineage import chain_of
from deploykit.base.progress import Progress
from deploykit.base.spec import Spec
from deploykit.base.targets import Precision
from deploykit.base.task import need_classifier
from deploykit.benchmarking.thumbnails import leave_thumbnails
from deploykit.config.evaluate import EvaluateConfig
from deploykit.evaluation.judge import verdict_of
from deploykit.evaluation.metrics import Metric
from deploykit.evaluation.run_classifier import preprocessing_of
from deploykit.evaluation.score import Scored, Scoring, save_logits_of, score, score_corrupted
from deploykit.reporting.read import plain, validate
from deploykit.reporting.schema import SCHEMA, ArtifactFile, Data, Report, Step, Variant

if TYPE_CHECKING:
    from deploykit.data import DataSource


def accuracy_report(
    specs: Sequence[Spec],
    baseline: str,
    source: DataSource,
    metrics: Mapping[str, Metric],
    config: EvaluateConfig,
    folder: Path | None,
    progress: Progress,
) -> Report:
    """Score every artifact and compare it with the baseline image by image.

    Args:
        specs: the artifacts.
        baseline: name of one of them.
        source: the data, opened.
        metrics: custom ones by name.
        config: split, batch, limit, corruptions …
        folder: where logits and thumbnails are left, or None.
        progress: shows one bar per artifact.

    Raises:
        BadInput: models that are no classifiers, classes that do not fit.
        Unavailable: this machine lacks what a target needs.
    """
    corrupted = config.corruption_images if config.corruptions else 0
    how = Scoring(
        source.split(config.split), config.batch, config.images, config.ci_level, config.seed, metrics, corrupted
    )
    variants: dict[str, Variant] = {}
    base: Scored | None = None
    for spec in sorted(specs, key=lambda one: one.name != baseline):
        variants[spec.name], scored = _variant(spec, source, how, base, config, folder, progress)
        base = scored if spec.name == baseline else base
    report = _report([variants[spec.name] for spec in specs], baseline, how, config)
    if base is None and len(specs) > 1:
        report.warnings.append(f"the baseline {baseline} failed, so nothing could be compared with it")
    return validate(report.plain())


def _variant(
    spec: Spec,
    source: DataSource,
    how: Scoring,
    base: Scored | None,
    config: EvaluateConfig,
    folder: Path | None,
    progress: Progress,
) -> tuple[Variant, Scored | None]:
    """One variant of the report, and what it answered (None where it failed); ``base`` is the baseline's."""
    from deploykit.engines import open_runner

    chain, name = chain_of(spec.path, folder), spec.name
    with open_runner(
        spec, threads=config.threads, device=config.device, stated=config.stated, allow_code=config.allow_code
    ) as runner:
        variant = Variant(
            name=name,
            target=runner.target,
            precision=cast(Precision, runner.precision),
            status="ok",
            steps=[Step(**step) for step in chain.steps],
            notes=[*chain.notes, *runner.notes, *_as_made(spec.path)],
            artifact=ArtifactFile(**artifact_of(spec.path, folder)),
        )
        need_classifier(runner.task, name, "accuracy")
        preprocessing = preprocessing_of(runner, source.natural_size, config.stated, name, progress)
        try:
            scored = score(runner, preprocessing, how, base, progress, name=name)
        except AnswerNo as error:
            progress.warn(error.line())
            variant.status, variant.reason = "failed", error.line()
            return variant, None
        score_corrupted(scored, runner, preprocessing, how, base, progress, name=name)
    if folder is not None:
        leave_thumbnails([scored.accuracy], how.split, folder)
        save_logits_of(scored, how, folder, name)
    variant.accuracy, variant.judged_among = scored.accuracy, scored.judged_among
    return variant, scored


def _as_made(path: Path) -> list[str]:
    """What was judged of a file when it was made, where that was not ok: accuracy alone does not take it back."""
    manifest = read_manifest(path)
    fields = manifest.facts.get("verdict") if manifest is not None else None
    if fields is None or fields["status"] == "ok":
        return []
    return [f"judged when it was made: {verdict_of(fields).line()}"]


def _report(variants: list[Variant], baseline: str, how: Scoring, config: EvaluateConfig) -> Report:
    data = Data(name=data_name(config), split=config.split, n=len(how.labels), sha256=how.split.sha256)
    return Report(
        schema=SCHEMA,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=plain(describe()),
        data=data,
        ci_level=config.ci_level,
        seed=config.seed,
        baseline=baseline,
        variants=variants,
    )


def data_name(config: EvaluateConfig) -> str:
    """The data as a report names it."""
    assert config.data is not None
    return Path(config.data).name
