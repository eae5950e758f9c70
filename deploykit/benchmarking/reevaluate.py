"""Judging the logits of a run folder again: another baseline, level or metric needs no inference."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from deploykit.base.artifact import Manifest, Parent, files_of, write_manifest
from deploykit.base.errors import AnswerNo, BadInput, unknown
from deploykit.base.hashing import file_sha256
from deploykit.base.progress import SILENT, Progress
from deploykit.base.store import link_or_copy
from deploykit.config.evaluate import EvaluateConfig
from deploykit.evaluation.logits import SavedLogits, load_logits
from deploykit.evaluation.metrics import judge, load_metrics
from deploykit.latency.results import paired
from deploykit.reporting.pick import primary_measurement, settle
from deploykit.reporting.quality import Accuracy
from deploykit.reporting.read import read_report, validate
from deploykit.reporting.schema import Report, Speedup, Variant
from deploykit.reporting.write import write_report

STAGE_VERSION = 1


def rejudge(folder: Path, config: EvaluateConfig, progress: Progress = SILENT) -> Report:
    """The report of ``folder`` with every accuracy computed anew from its saved logits, one variant in memory at a time.

    Timings stay as they were measured; speed-ups over another baseline are recomputed from the raw samples. What was
    answered to corrupted images is not saved as logits and stays only with the same baseline.

    Args:
        folder: with ``report.json`` and ``logits/``.
        config: its ``baseline``, ``metrics``, ``ci_level`` and ``seed`` count.
        progress: one bar.

    Raises:
        BadInput: no logits, unknown baseline, logits of other data or of another length.
    """
    report = read_report(folder)
    names = [one.name for one in report.variants]
    if config.baseline is not None and config.baseline not in names:
        raise unknown("baseline", config.baseline, names)
    baseline = config.baseline or report.baseline or names[0]
    same = baseline == report.baseline
    metrics = load_metrics(config.metrics)
    base: SavedLogits | None = None
    found: dict[str, Variant] = {}
    order = sorted(report.variants, key=lambda one: one.name != baseline)
    with progress.task("judge", total=len(order), unit="variants") as task:
        for old in order:
            name, accuracy = old.name, old.accuracy
            new = found[name] = old.model_copy()
            if accuracy is not None and accuracy.logits_file is not None:
                saved = _logits(folder, accuracy.logits_file, report, base, name)
                try:
                    theirs = None if base is None else base.logits
                    fresh = judge(
                        saved.logits,
                        saved.labels,
                        theirs,
                        config.ci_level,
                        config.seed,
                        name=name,
                        metrics=metrics,
                        classes=saved.classes or None,
                        images=_images(saved, report),
                    )
                except AnswerNo as error:
                    new.status, new.reason, new.accuracy, new.quality = "failed", error.line(), None, None
                    continue
                new.accuracy, new.quality = _kept(fresh, accuracy, same), None
                base = saved if name == baseline else base
            elif accuracy is not None:
                raise BadInput(f"{folder}: the logits of {name} were not saved", fix="Evaluate again with -o.")
            task.advance(1)
    if all(one.accuracy is None for one in found.values()):
        raise BadInput(f"{folder} holds no accuracy to judge again", fix="Evaluate first.")
    variants = [found[name] for name in names]
    if not same:
        for variant in variants:
            variant.speedup = _speedup(folder, report, variant, found[baseline], config)
    changed = {"variants": variants, "baseline": baseline, "ci_level": config.ci_level, "seed": config.seed}
    return _settled(report.model_copy(update=changed))


def _settled(new: Report) -> Report:
    """Pareto front and pick decided anew where the report had a budget to hold them to."""
    if new.budget is not None and new.budget.max_drop_pt is not None:
        kept = [
            one
            for one in new.warnings
            if not one.startswith(("no variant is verified, timed and within", "no variant is picked"))
        ]
        new = settle(new.model_copy(update={"warnings": kept}), new.budget.max_drop_pt)
    return validate(new.plain())


def _logits(folder: Path, name: str, report: Report, base: SavedLogits | None, variant: str) -> SavedLogits:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise BadInput(f"{folder}: the logits of {variant} lie outside of it", got=name)
    saved = load_logits(path)
    data = report.data
    if data is not None and saved.data_sha256 != data.sha256:
        raise BadInput(
            f"{folder}: the logits of {variant} are of other data than the report",
            got=saved.data_sha256[:12],
            expected=data.sha256[:12],
            fix="Evaluate again.",
        )
    if base is not None and not np.array_equal(saved.labels, base.labels):
        raise BadInput(
            f"{folder}: the logits of {variant} are of other images than the baseline's", fix="Evaluate again."
        )
    return saved


def _images(saved: SavedLogits, report: Report) -> np.ndarray | None:
    """The number of each row's image in its split, where the rows are all its images; else it is not known here."""
    data = report.data
    return np.arange(len(saved.labels)) if data is not None and data.n == len(saved.labels) else None


def _kept(fresh: Accuracy, old: Accuracy, same: bool) -> Accuracy:
    """The new figures with what logits do not hold: thumbnails of the same images, answers to corrupted ones."""
    pictures = {flip.image: flip.picture for flip in old.flips or ()}
    for flip in fresh.flips or ():
        flip.picture = pictures.get(flip.image)
    robustness = old.robustness
    if not same:
        unknown_drop = dict.fromkeys(("drop_pt", "drop_pt_low", "drop_pt_high"))
        robustness = [row.model_copy(update=unknown_drop) for row in robustness]
    return fresh.model_copy(update={"robustness": robustness, "logits_file": old.logits_file, "split": old.split})


def _speedup(folder: Path, report: Report, variant: Variant, base: Variant, config: EvaluateConfig) -> Speedup | None:
    ours, theirs = (primary_measurement(report, one) for one in (variant, base))
    if variant is base or ours is None or theirs is None:
        return None
    blocks = [_blocks(folder, one.samples_file) for one in (theirs, ours)]
    speed = (
        None if blocks[0] is None or blocks[1] is None else paired(blocks[0], blocks[1], config.ci_level, config.seed)
    )
    if speed is None:
        return None
    return Speedup(estimate=speed.estimate, low=speed.low, high=speed.high, of=ours.key)


def _blocks(folder: Path, name: str | None) -> dict[int, np.ndarray] | None:
    """Round → samples, as they were saved; None where they are not there."""
    path = None if name is None else (folder / name).resolve()
    if path is None or not path.is_file() or not path.is_relative_to(folder.resolve()):
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            samples, rounds = file["samples_ms"], file["round"]
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{path} holds no samples we can read: {error}", fix="Measure again.") from error
    return {int(number): samples[rounds == number] for number in np.unique(rounds)}


def write_rejudged(report: Report, source: Path, folder: Path, config: EvaluateConfig) -> None:
    """Write a judged report into ``folder``, with the files of ``source`` that it names."""
    if folder.resolve() != source.resolve():
        for name in _named(report):
            if (source / name).is_file():
                link_or_copy(source / name, folder / name)
        moved = [_moved(one, source, folder) for one in report.variants]
        report = report.model_copy(update={"variants": moved})
    write_report(report, folder)
    path = folder / "report.json"
    parent = Parent("report", file_sha256(source / "report.json"), name=source.name)
    manifest = Manifest(
        kind="report",
        files={},
        stage="evaluate",
        version=STAGE_VERSION,
        config={**config.plain(), "data": None},
        parents=(parent,),
    )
    write_manifest(path, replace(manifest, files=files_of(path)))


def _named(report: Report) -> list[str]:
    found: list[str | None] = []
    for one in report.variants:
        found += [timing.samples_file for timing in one.measurements]
        found += [attached.file for attached in one.attachments]
        if one.accuracy is not None:
            found.append(one.accuracy.logits_file)
            found += [flip.picture for flip in one.accuracy.flips or ()]
    return sorted({name for name in found if name is not None})


def _moved(variant: Variant, source: Path, folder: Path) -> Variant:
    """The variant with its artifact's path seen from the new folder."""
    artifact = variant.artifact
    if artifact is None:
        return variant
    place = Path(os.path.relpath((source / artifact.path).resolve(), folder.resolve()))
    return variant.model_copy(update={"artifact": artifact.model_copy(update={"path": place.as_posix()})})
