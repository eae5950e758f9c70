"""Variants side by side: each judged, all timed together, one report of it, written once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploykit.base.artifact import Manifest, Parent, already_made, artifact_sha256, files_of, write_manifest
from deploykit.base.atomic import make_folder
from deploykit.base.environment import MEASURED_BY, cores, library_versions
from deploykit.base.errors import BadInput, Unavailable, from_os_error
from deploykit.base.lineage import chain_of
from deploykit.base.progress import Progress
from deploykit.base.spec import Spec
from deploykit.benchmarking.image_judge import ImageJudge
from deploykit.benchmarking.random_judge import RandomJudge
from deploykit.benchmarking.report import Made, build_report
from deploykit.benchmarking.thumbnails import leave_thumbnails
from deploykit.benchmarking.variant import Judged, References
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.evaluation.metrics import load_metrics
from deploykit.evaluation.score import Scoring
from deploykit.latency.measure import Measured, measure
from deploykit.latency.worker import Opener, Opening, open_timed
from deploykit.reporting.schema import OTHER_SIDE, Report
from deploykit.reporting.write import refuse_foreign_folder, write_report

if TYPE_CHECKING:
    from deploykit.data import Split


def side_by_side(
    specs: Sequence[Spec],
    baseline: str,
    folder: Path | None,
    config: BenchmarkConfig,
    version: int,
    *,
    against: str | None = None,
    made: Made | None = None,
    force: bool = False,
    progress: Progress,
) -> Report:
    """Verify, judge and time variants together.

    Args:
        specs: with their targets; those of another side are called ``NAME@base``.
        baseline: name among them.
        folder: for ``report.json`` and its manifest, the pages, ``samples/``, ``logits/`` …; None: nothing is written.
        config: of the benchmark.
        version: of the stage, for the manifest.
        against: what the other side is, or None.
        made: what a recipe knows of its variants, where it is one that measures.
        force: replace files that deploykit did not make.
        progress: where it shows.

    Raises:
        BadInput: broken files, models that are no classifiers of the data, files of other makers in the folder.
        Unavailable: this machine lacks what the baseline, or the only artifact, needs; others are skipped.
    """
    if folder is not None:
        _make_ready(folder, force=force)
    judge = _judge_of(config, progress)
    with _beside(folder) as place:
        with closing(judge):
            judged = _judge_all(specs, baseline, judge, folder, place, progress)
        config, split = judge.config, judge.split
        measured = _timed(judged, baseline, judge, progress)
        for warning in measured.warnings:
            progress.warn(warning)
        if folder is None or place is None:
            return build_report(judged, measured, baseline, against, split, config, None, None)
        try:
            (place / "samples").mkdir()
            if split is not None:
                leave_thumbnails([one.accuracy for one in judged], split, place)
            report = build_report(judged, measured, baseline, against, split, config, folder, place, made)
            write_report(report, place)
            _move(place, folder)
        except OSError as error:
            raise from_os_error(error, f"cannot write {folder}") from error
    write_manifest(folder / "report.json", _manifest(judged, split, config, version, against, folder))
    return report


def _judge_of(config: BenchmarkConfig, progress: Progress) -> ImageJudge | RandomJudge:
    """By images where there are data, else by random input."""
    references = References(config, max(config.threads, cores() // 2))
    if config.data is None:
        if config.metrics or config.corruptions:
            raise BadInput("accuracy is asked for, but there are no data", fix="Name them with --data.")
        progress.warn("no --data: variants are timed on random input, and nothing is said of their accuracy")
        return RandomJudge(config, references, progress)
    from deploykit.data import open_data

    metrics = load_metrics(config.metrics)
    source = open_data(config.data, allow_code=True, skip_broken=config.skip_broken, progress=progress)
    split = source.split(config.split)
    if len(split) == 0:
        raise BadInput(f"there are no images in the {config.split} split of {config.data}")
    if config.shapes:
        raise BadInput("--shape is of random input", got="--data too", fix="Leave one of them away.")
    corrupted = config.corruption_images if config.corruptions else 0
    how = Scoring(split, config.eval_batch, config.images, config.ci_level, config.seed, metrics, corrupted)
    return ImageJudge(config, source, how, references, progress)


def _judge_all(
    specs: Sequence[Spec],
    baseline: str,
    judge: ImageJudge | RandomJudge,
    folder: Path | None,
    place: Path | None,
    progress: Progress,
) -> list[Judged]:
    """All variants in their own order; the baseline is judged first, and only its logits stay in memory."""
    found: dict[str, Judged] = {}
    base: Judged | None = None
    for spec in sorted(specs, key=lambda one: one.name != baseline):
        chain = chain_of(spec.path, folder)
        try:
            one = judge.judge(spec, chain, base)
        except Unavailable as error:
            if spec.name == baseline or len(specs) == 1:
                raise
            one = Judged(spec, chain, "skipped", error.line())
            progress.warn(f"{spec.name} is skipped: {error.line()}")
        except MemoryError:
            one = Judged(spec, chain, "failed", "out of memory while its answers were judged")
        if one.status in ("unsure", "failed"):
            progress.warn(f"{spec.name} {one.status}: {one.reason}")
        found[spec.name] = one
        base = one if spec.name == baseline else base
        if place is not None:
            judge.keep(one, place)
        if one is not base:
            one.scored = None
    if base is not None:
        base.scored = None
    return [found[spec.name] for spec in specs]


def _timed(judged: Sequence[Judged], baseline: str, judge: ImageJudge | RandomJudge, progress: Progress) -> Measured:
    config = judge.config
    able = {one.spec.name: one for one in judged if one.opened}

    def opener(name: str, threads: int) -> Opener:
        one = able[name]
        spec = replace(one.spec, path=one.spec.path.resolve())
        options: Opening = {
            "device": config.device,
            "stated": config.stated,
            "allow_code": config.allow_code,
            "threads": threads,
        }
        return Opener(open_timed, (spec, judge.timed_input(one), options))

    openers = {name: opener(name, config.threads) for name in able}
    if not openers:
        return Measured({})
    pairs = [(name, name + OTHER_SIDE) for name in openers if name + OTHER_SIDE in openers]
    return measure(openers, baseline, config, progress, opener, pairs)


def _make_ready(folder: Path, *, force: bool) -> None:
    """Make the run folder, and check early that a report may be written into it."""
    make_folder(folder)
    already_made(folder / "report.json", "", force=force)
    if not force:
        refuse_foreign_folder(folder)


@contextmanager
def _beside(folder: Path | None) -> Iterator[Path | None]:
    """A hidden folder inside ``folder`` in which everything is written first; None where nothing is to be written."""
    if folder is None:
        yield None
        return
    place = Path(tempfile.mkdtemp(prefix=".benchmark-", dir=folder))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _move(place: Path, folder: Path) -> None:
    """Move everything that was written to where it belongs: an interrupt leaves no half report."""
    for file in sorted(path for path in place.rglob("*") if path.is_file()):
        target = folder / file.relative_to(place)
        target.parent.mkdir(exist_ok=True)
        os.replace(file, target)


def _manifest(
    judged: Sequence[Judged],
    split: Split | None,
    config: BenchmarkConfig,
    version: int,
    against: str | None,
    folder: Path,
) -> Manifest:
    names = [str(replace(one.spec, path=Path(one.spec.path.name))) for one in judged]
    parents = [
        Parent("artifact", artifact_sha256(one.spec.path), name=name) for one, name in zip(judged, names, strict=True)
    ]
    data = None if config.data is None else Path(config.data).name
    if split is not None:
        parents.append(Parent("data", split.sha256, name=data))
    return Manifest(
        kind="report",
        files=files_of(folder / "report.json"),
        stage="benchmark",
        version=version,
        config={**config.plain(), "data": data, "against": against, "artifacts": names},
        parents=tuple(parents),
        versions=library_versions(MEASURED_BY),
    )
