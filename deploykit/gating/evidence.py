"""What a verdict is made from: a checked report and, where they are there, the raw numbers behind it."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deploykit.base.artifact import is_unmodified, read_manifest
from deploykit.base.errors import BadInput
from deploykit.base.progress import Progress
from deploykit.config.gate import MeasurementChoice
from deploykit.latency.results import medians
from deploykit.reporting.pick import primary
from deploykit.reporting.quality import quality_of
from deploykit.reporting.read import read_report
from deploykit.reporting.schema import Measurement, Of, Report, Variant
from deploykit.stats.percentiles import percentile
from deploykit.stats.ratio import speed_up

Blocks = dict[int, np.ndarray]
"""round → the times of that round's block, float64 [n] in ms."""


@dataclass(frozen=True)
class Answers:
    """What a variant answered.

    Attributes:
        predicted: int64 [N], class of each image.
        labels: int64 [N].
        digest: hash of the logits; equal ones mean that not only the answers are equal.
    """

    predicted: np.ndarray
    labels: np.ndarray
    digest: str

    @property
    def right(self) -> np.ndarray:
        """Which answers are right: bool [N]."""
        return np.asarray(self.predicted == self.labels)


@dataclass
class Evidence:
    """One report with its raw numbers.

    Attributes:
        report: checked.
        sessions: measurements of the same variants, each variant → :data:`Blocks`; the report's own is the first, those
            that ``--retry`` made follow. Variants without raw samples are absent.
        floors: the noise floor of each session as a ratio, or None where it was not measured.
        answers: variant → its answers; those without logits are absent.
        problems: variant → why its numbers cannot be believed.
    """

    report: Report
    sessions: list[dict[str, Blocks]] = field(default_factory=list)
    floors: list[float | None] = field(default_factory=list)
    answers: dict[str, Answers] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)

    @property
    def variants(self) -> dict[str, Variant]:
        """Name → variant, in the report's order."""
        return {variant.name: variant for variant in self.report.variants}

    @property
    def baseline(self) -> str | None:
        """The report's own baseline variant."""
        return self.report.baseline


Wanted = Mapping[str, object]
"""Which measurement is judged: value of each field of :class:`deploykit.reporting.schema.Of`."""


def wanted_measurement(report: Report, choice: MeasurementChoice | None) -> Wanted:
    """The report's primary measurement, with what the policy asks for in its place."""
    of = primary(report)
    found: dict[str, object] = dict.fromkeys(Of.model_fields) if of is None else of.plain()
    asked = {} if choice is None else {key: value for key, value in choice.plain().items() if value is not None}
    return {**found, **asked}


def measurement_of(variant: Variant, wanted: Wanted) -> Measurement | None:
    """The variant's measurement of this kind, or None."""
    return next((one for one in variant.measurements if one.key.plain() == wanted), None)


CLOSE = 1e-6
ROWS = 4096


def read_evidence(place: Path, choice: MeasurementChoice | None, progress: Progress) -> Evidence:
    """A report with its raw samples and logits, as far as they lie beside it.

    What the raw numbers and the report say differently becomes a problem of the variant; a report that was changed since
    deploykit wrote it becomes one of all its variants. What is not there is said, and judged from the stated numbers.

    Args:
        place: run folder or ``report.json``.
        choice: which measurement is judged.
        progress: is told what is missing.

    Raises:
        BadInput: no report, truncated, or of a schema we cannot read.
    """
    report = read_report(place)
    file = place / "report.json" if place.is_dir() else place
    folder = file.parent
    found = Evidence(report, [{}], [report.noise_floor_ratio])
    wanted, missing = wanted_measurement(report, choice), []
    for name, variant in found.variants.items():
        if variant.status == "skipped":
            continue
        one = measurement_of(variant, wanted)
        try:
            blocks = _blocks(folder, one)
            if blocks is None:
                missing += [name] if one is not None else []
            else:
                found.sessions[0][name] = blocks
        except _Unbelievable as problem:
            found.problems.setdefault(name, []).append(str(problem))
        try:
            answers = _answers(folder, variant, report)
            if answers is not None:
                found.answers[name] = answers
            elif variant.accuracy:
                missing += [name] if name not in missing else []
        except _Unbelievable as problem:
            found.problems.setdefault(name, []).append(str(problem))
    _check_speedups(found, wanted)
    _check_drops(found)
    if _changed(file):
        for name in found.variants:
            found.problems.setdefault(name, []).append(f"{file.name} was changed since deploykit wrote it")
    if missing:
        progress.say(f"{file}: raw numbers of {', '.join(missing)} are not there, judged from what the report states")
    return found


class _Unbelievable(Exception):
    """Raw numbers and report do not fit together."""


def _changed(file: Path) -> bool:
    try:
        manifest = read_manifest(file)
    except BadInput:
        return True
    return manifest is not None and not is_unmodified(file, manifest)


def _arrays(folder: Path, name: str, keys: tuple[str, ...]) -> dict[str, np.ndarray] | None:
    """Arrays of an ``.npz`` inside ``folder``; None where there is no such file."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in keys}
    except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise _Unbelievable(
            f"{name} cannot be read ({' '.join(str(error).split())[:80]}), it may be truncated"
        ) from error


def _blocks(folder: Path, one: Measurement | None) -> Blocks | None:
    """The raw samples of a measurement by round, held against what the report states of it."""
    if one is None or not one.samples_file:
        return None
    name = one.samples_file
    arrays = _arrays(folder, name, ("samples_ms", "round"))
    if arrays is None:
        return None
    samples, rounds = np.asarray(arrays["samples_ms"], np.float64).ravel(), np.asarray(arrays["round"]).ravel()
    if samples.size == 0 or samples.size != rounds.size:
        raise _Unbelievable(f"{name} holds no samples")
    if not np.isfinite(samples).all() or samples.min() <= 0:
        raise _Unbelievable(f"{name} holds times that are NaN, infinite or not above 0")
    stated = {"n": one.n, "p50_ms": one.p50_ms, "p99_ms": one.p99_ms, "mean_ms": one.mean_ms}
    raw = {
        "n": samples.size,
        "p50_ms": percentile(samples, 0.5),
        "p99_ms": percentile(samples, 0.99),
        "mean_ms": float(samples.mean()),
    }
    _compare(name, stated, raw)
    order = np.argsort(rounds, kind="stable")
    numbers, starts = np.unique(rounds[order], return_index=True)
    parts = np.split(samples[order], starts[1:])
    return {int(number): part for number, part in zip(numbers, parts, strict=True)}


def _compare(name: str, stated: Mapping[str, float | None], raw: dict[str, float]) -> None:
    for key, value in stated.items():
        if value is not None and abs(value - raw[key]) > CLOSE * max(abs(value), abs(raw[key])):
            raise _Unbelievable(
                f"the report states {key} {value:g}, {name} gives {raw[key]:g}: one of them was changed"
            )


def _answers(folder: Path, variant: Variant, report: Report) -> Answers | None:
    accuracy = variant.accuracy
    if not accuracy or not accuracy.logits_file:
        return None
    name = accuracy.logits_file
    arrays = _arrays(folder, name, ("logits", "labels", "data_sha256"))
    if arrays is None:
        return None
    logits, labels = arrays["logits"], arrays["labels"]
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or logits.size == 0:
        raise _Unbelievable(f"{name} holds no logits with their labels")
    data = report.data
    if data and str(arrays["data_sha256"]) != data.sha256:
        raise _Unbelievable(f"{name} is of other data than the report")
    predicted = np.empty(len(labels), dtype=np.int64)
    for start in range(0, len(labels), ROWS):
        rows = logits[start : start + ROWS]
        if not np.isfinite(rows).all():
            raise _Unbelievable(f"{name} holds NaN or infinite logits")
        predicted[start : start + ROWS] = rows.argmax(axis=1)
    top1 = float(np.mean(predicted == labels))
    _compare(name, {"n": accuracy.n, "top1": accuracy.top1}, {"n": len(labels), "top1": top1})
    return Answers(
        predicted, np.asarray(labels, np.int64), hashlib.sha256(np.ascontiguousarray(logits).data).hexdigest()
    )


def _check_speedups(found: Evidence, wanted: Wanted) -> None:
    """The stated speed-ups against the raw samples that they came from."""
    base = found.sessions[0].get(found.baseline or "")
    for name, variant in found.variants.items():
        speedup, ours = variant.speedup, found.sessions[0].get(name)
        if not speedup or speedup.of.plain() != wanted or not ours or not base:
            continue
        rounds = sorted(ours.keys() & base.keys())
        if not rounds:
            found.problems.setdefault(name, []).append("it has no round in common with the baseline variant")
            continue
        raw = speed_up(medians(base, rounds), medians(ours, rounds))
        if abs(raw - speedup.estimate) > CLOSE * raw:
            told = f"the report states a speed-up of {speedup.estimate:g}, the raw samples give {raw:g}"
            found.problems.setdefault(name, []).append(f"{told}: one of them was changed")


def _check_drops(found: Evidence) -> None:
    """The stated drops and agreements against the logits."""
    base = found.answers.get(found.baseline or "")
    for name, variant in found.variants.items():
        if variant.accuracy and variant.quality != quality_of(variant.accuracy):
            found.problems.setdefault(name, []).append("its quality and its accuracy differ: one of them was changed")
    for name, ours in found.answers.items():
        accuracy = found.variants[name].accuracy
        if base is None or accuracy is None or name == found.baseline:
            continue
        if not np.array_equal(base.labels, ours.labels):
            found.problems.setdefault(name, []).append("its logits are of other images than the baseline variant's")
            continue
        raw = {
            "drop_pt": 100 * (float(base.right.mean()) - float(ours.right.mean())),
            "agreement": float(np.mean(base.predicted == ours.predicted)),
            "negative_flips": float(np.mean(base.right & ~ours.right)),
        }
        for key, value in raw.items():
            stated: float | None = getattr(accuracy, key)
            if stated is not None and abs(stated - value) > CLOSE:
                told = f"the report states {key} {stated:g}, the logits give {value:g}: one of them was changed"
                found.problems.setdefault(name, []).append(told)
