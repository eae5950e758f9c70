"""Latency, parity and accuracy of variants measured together, and the report of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit.base.artifact import Manifest, Parent, already_made, artifact_sha256, files_of, safe_name, write_manifest
from deploykit.base.atomic import make_folder
from deploykit.base.command_result import Result
from deploykit.base.environment import cores, library_versions
from deploykit.base.errors import BadInput, Unavailable, from_os_error, unknown
from deploykit.base.lineage import Chain, chain_of
from deploykit.base.progress import SILENT, Progress
from deploykit.base.spec import Spec
from deploykit.benchmarking.against import SUFFIX, other_side
from deploykit.benchmarking.report import build_report, speed_table
from deploykit.benchmarking.run_folder import specs_of_run
from deploykit.benchmarking.thumbnails import leave_thumbnails
from deploykit.benchmarking.variant import Judge, Judged
from deploykit.commands.evaluate import run_folder_of, unique_specs
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.config.keywords import by_keywords
from deploykit.evaluation.metrics import load_metrics
from deploykit.latency.measure import Measured, Settings, measure
from deploykit.latency.worker import Opener, open_timed
from deploykit.reporting.attachments.files import gather

if TYPE_CHECKING:
    import numpy as np

    from deploykit.data import Split

STAGE_VERSION = 1


@dataclass(frozen=True)
class BenchmarkResult(Result):
    """What was measured.

    Attributes:
        report: as of ``deploykit.report/1``.
        folder: where it was written, or None.
    """

    report: dict[str, Any]
    folder: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether no variant failed; a skipped one is no failure."""
        return all(variant["status"] != "failed" for variant in self.report["variants"])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields: the whole report, and where it is."""
        return {
            "report": self.report,
            "folder": None if self.folder is None else str(self.folder),
            "failed": [one["name"] for one in self.report["variants"] if one["status"] == "failed"],
        }

    def summary(self) -> str:
        """The table for people."""
        where = "" if self.folder is None else f"\nreport: {self.folder / 'report.html'}"
        return speed_table(self.report) + where


@by_keywords(BenchmarkConfig)
def benchmark(
    artifacts: Sequence[str | Spec],
    output: Path | str | None = None,
    config: BenchmarkConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> BenchmarkResult:
    """Verify, judge and time artifacts together: parity first, then accuracy, then interleaved latency.

    Each variant is timed in a process of its own; a script that calls this needs the usual
    ``if __name__ == "__main__":`` guard. Variants that fail parity are reported and not timed.

    Args:
        artifacts: ``[NAME=]PATH[@TARGET[:key=value,…]]``, one or more; or a run folder, whose variants are measured again.
        output: run folder for ``report.json``, ``.html``, ``.md``, ``samples/`` and ``logits/``, made if missing; None:
            nothing is written.
        config: data, baseline, batch, threads, limits …; its ``metrics`` and ``module:`` data run as user code.
        force: replace files that deploykit did not make.
        progress: where it shows.

    Raises:
        BadInput: unknown or doubled names, broken files, models that are no classifiers of this data.
        Unavailable: this machine lacks what the baseline, or the only artifact, needs; others are skipped.
    """
    from deploykit.engines import resolve

    if config is None:
        raise BadInput("benchmark needs data", fix="Pass BenchmarkConfig(data=…).")
    run = run_folder_of(artifacts)
    specs = [resolve(spec, config.device) for spec in (named_specs(artifacts) if run is None else specs_of_run(run))]
    baseline = baseline_of(specs, config.baseline)
    if config.against is None:
        return _benchmark(specs, baseline, None, output, config, force, progress)
    names = [spec.name for spec in specs]
    with other_side(config.against, names, run, allow_code=config.allow_code, progress=progress) as other:
        both = [*specs, *(resolve(spec, config.device) for spec in other.specs)]
        return _benchmark(both, baseline, other.name, output, config, force, progress)


def _benchmark(
    specs: list[Spec],
    baseline: str,
    against: str | None,
    output: Path | str | None,
    config: BenchmarkConfig,
    force: bool,
    progress: Progress,
) -> BenchmarkResult:
    from deploykit.data import open_data

    metrics = load_metrics(config.metrics)
    folder = None if output is None else Path(output)
    if folder is not None:
        _make_ready(folder, force=force)
    source = open_data(config.data, allow_code=True, skip_broken=config.skip_broken, progress=progress)
    split = source.split(config.split)
    if len(split) == 0:
        raise BadInput(f"there are no pictures in the {config.split} split of {config.data}")
    threads = max(config.threads, cores() // 2)
    with _beside(folder) as place:
        with closing(Judge(config, source, split, metrics, threads, progress)) as judge:
            judged = _judge_all(specs, baseline, judge, folder, place, progress)
            images = [image for image, _ in zip(_repeated(judge.pictures()), range(config.batch), strict=False)]
        measured = _measure(judged, baseline, images, config, progress)
        for warning in measured.warnings:
            progress.warn(warning)
        if folder is None or place is None:
            return BenchmarkResult(build_report(judged, measured, baseline, against, split, config, None, None))
        report = _write(judged, measured, baseline, against, split, config, folder, place)
    write_manifest(folder / "report.json", _manifest(judged, split.sha256, config, against, folder))
    return BenchmarkResult(report, folder)


def named_specs(artifacts: Sequence[str | Spec]) -> list[Spec]:
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


def _judge_all(
    specs: list[Spec], baseline: str, judge: Judge, folder: Path | None, place: Path | None, progress: Progress
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
            one = _not_judged(spec, chain, "skipped", error.line())
            progress.warn(f"{spec.name} is skipped: {error.line()}")
        except MemoryError:
            one = _not_judged(spec, chain, "failed", "out of memory while its answers were judged")
        if one.fields["status"] == "failed":
            progress.warn(f"{spec.name} failed: {one.fields['reason']}")
        found[spec.name] = one
        base = one if spec.name == baseline else base
        if place is not None and one.logits is not None:
            _keep_logits(one, judge.split, judge.config, place)
        if one is not base:
            one.logits = one.answers = None
    if base is not None:
        base.logits = base.answers = None
    return [found[spec.name] for spec in specs]


def _keep_logits(one: Judged, split: Split, config: BenchmarkConfig, place: Path) -> None:
    from deploykit.evaluation.logits import SavedLogits, save_logits

    assert one.logits is not None
    name = f"logits/{safe_name(one.spec.name)}.npz"
    (place / "logits").mkdir(exist_ok=True)
    labels = split.labels[split.chosen(config.limit)]
    save_logits(place / name, SavedLogits(one.logits, labels, split.sha256, tuple(split.classes)))
    one.fields["accuracy"]["logits_file"] = name


def _not_judged(spec: Spec, chain: Chain, status: str, reason: str) -> Judged:
    fields: dict[str, Any] = {
        "name": spec.name,
        "target": spec.target,
        "status": status,
        "reason": reason,
        "notes": list(chain.notes),
    }
    return Judged(spec, chain, fields)


def _repeated(images: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    while True:
        yield from images


def _measure(
    judged: Sequence[Judged], baseline: str, images: list[np.ndarray], config: BenchmarkConfig, progress: Progress
) -> Measured:
    options = {
        "device": config.device,
        "size": config.size,
        "allow_code": config.allow_code,
    }
    able = {one.spec.name: one for one in judged if one.ok}

    def opener(name: str, threads: int) -> Opener:
        one = able[name]
        spec = replace(one.spec, path=one.spec.path.resolve())
        return Opener(open_timed, (spec, images, one.preprocessing, {**options, "threads": threads}))

    openers = {name: opener(name, config.threads) for name in able}
    if not openers:
        return Measured({})
    settings = Settings(
        threads=config.threads,
        until=config.until,
        max_time_s=config.max_time_s,
        min_blocks=config.min_blocks,
        block_ms=config.block_ms,
        timed=("compute", "end_to_end") if config.end_to_end else ("compute",),
        ci_level=config.ci_level,
        seed=config.seed,
        batch=config.batch,
        builds=config.builds,
        scenarios=config.scenarios,
        multi_stream_images=config.multi_stream_images,
        server_bound_ms=config.server_bound_ms,
        sweeps=config.sweeps,
        pairs=tuple((name, name + SUFFIX) for name in openers if name + SUFFIX in openers),
    )
    return measure(openers, baseline, settings, progress, opener)


def _make_ready(folder: Path, *, force: bool) -> None:
    """Make the run folder, and check early that a report may be written into it."""
    from deploykit.reporting.write import refuse_foreign_pages

    make_folder(folder)
    already_made(folder / "report.json", "", force=force)
    if not force:
        refuse_foreign_pages(folder)


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


def _write(
    judged: list[Judged],
    measured: Measured,
    baseline: str,
    against: str | None,
    split: Split,
    config: BenchmarkConfig,
    folder: Path,
    place: Path,
) -> dict[str, Any]:
    """Write everything into ``place``, then move it to ``folder``: an interrupt leaves no half report."""
    from deploykit.reporting.write import write_report

    try:
        (place / "samples").mkdir()
        leave_thumbnails([one.fields.get("accuracy") for one in judged], split, place)
        for one in judged:
            one.fields["attachments"] = gather(one.chain.paths, place)
        report = build_report(judged, measured, baseline, against, split, config, folder, place)
        write_report(report, place)
        for file in sorted(path for path in place.rglob("*") if path.is_file()):
            target = folder / file.relative_to(place)
            target.parent.mkdir(exist_ok=True)
            os.replace(file, target)
    except OSError as error:
        raise from_os_error(error, f"cannot write {folder}") from error
    return report


def _manifest(
    judged: Sequence[Judged], data_sha256: str, config: BenchmarkConfig, against: str | None, folder: Path
) -> Manifest:
    names = [str(replace(one.spec, path=Path(one.spec.path.name))) for one in judged]
    parents = [
        Parent("artifact", artifact_sha256(one.spec.path), name=name) for one, name in zip(judged, names, strict=True)
    ]
    return Manifest(
        kind="report",
        files=files_of(folder / "report.json"),
        stage="benchmark",
        version=STAGE_VERSION,
        config={**config.plain(), "data": Path(config.data).name, "against": against, "artifacts": names},
        parents=(*parents, Parent("data", data_sha256, name=Path(config.data).name)),
        versions=library_versions(("torch", "onnxruntime", "onnxruntime-gpu", "numpy")),
    )
