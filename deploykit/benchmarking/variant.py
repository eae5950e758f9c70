"""One variant of a benchmark before it is timed, and what it is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploykit.base.artifact import read_manifest
from deploykit.base.lineage import Chain
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.runner import Runner
from deploykit.base.spec import Spec
from deploykit.base.targets import REFERENCE, Precision
from deploykit.base.task import Task
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.evaluation.judge import Bars
from deploykit.evaluation.judge import Verdict as Judgement
from deploykit.evaluation.parity import Parity as Measured
from deploykit.evaluation.score import Scored
from deploykit.reporting.quality import Accuracy, JudgedAmong, Parity, Quality, Verdict
from deploykit.reporting.read import plain
from deploykit.reporting.schema import Status

_WORSE: tuple[Status, ...] = ("ok", "unsure", "failed", "skipped")


@dataclass
class Judged:
    """What is known of a variant before it is timed.

    Attributes:
        spec: with its target.
        chain: what it came from.
        status: as of the report.
        reason: why not ok.
        accepted: a person takes it although it is not ok.
        opened: its engine was opened, so that it can be timed whatever it answers.
        task: of its engine.
        notes: for the report.
        precision: of its engine.
        audit: what its engine tells of itself.
        parity: with its reference; None where it is the reference, or was not compared.
        verdict: of the one judge, on that.
        accuracy: as of the report.
        quality: as of the report, where it does not follow from the accuracy.
        judged_among: as of the report.
        params: of the network it came from.
        macs: of one image.
        scored: its answers; only the baseline's are kept.
        predicted: int64 [N], its answers, or None.
        classes: of its engine, where its answers are compared without labels.
        preprocessing: of its engine, or None where it did not open.
    """

    spec: Spec
    chain: Chain
    status: Status = "ok"
    reason: str | None = None
    accepted: bool = False
    opened: bool = False
    task: Task = "classify"
    notes: list[str] = field(default_factory=list)
    precision: Precision | None = None
    audit: dict[str, Any] | None = None
    parity: Parity | None = None
    verdict: Verdict | None = None
    accuracy: Accuracy | None = None
    quality: Quality | None = None
    judged_among: JudgedAmong | None = None
    params: int | None = None
    macs: int | None = None
    scored: Scored | None = None
    predicted: np.ndarray | None = None
    classes: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None

    def __post_init__(self) -> None:
        self.notes = [*self.chain.notes, *self.notes]

    def fail(self, status: Status, reason: str) -> None:
        """Record what is wrong with it; the first reason of the worst status stays, further ones become notes."""
        if _WORSE.index(status) > _WORSE.index(self.status):
            status, reason, self.status, self.reason = self.status, self.reason or "", status, reason
            self.accepted = False
        if reason:
            self.notes.append(f"{status}: {reason}")

    def take(self, parity: Measured, verdict: Judgement) -> None:
        """Keep what it was compared with and how that was judged."""
        self.parity = Parity.model_validate({**parity.to_dict(), "split": verdict.split})
        self.verdict = Verdict.model_validate(plain(verdict.to_dict()))
        if verdict.status != "ok":
            self.fail(verdict.status, "; ".join(verdict.reasons))
            self.accepted = verdict.accepted


def bars_of(one: Judged, config: BenchmarkConfig) -> Bars:
    """What a variant is held to, and whether it is taken anyway: told here, or when its file or one before it was made."""
    manifests = [read_manifest(path) for path in one.chain.paths]
    verdicts = [manifest.facts.get("verdict") for manifest in manifests if manifest]
    taken = any(isinstance(verdict, dict) and verdict.get("accepted") for verdict in verdicts)
    accept = config.accept or one.spec.name in config.accept_variants or taken
    return Bars(config.min_agreement, config.min_snr_db, accept=accept)


@dataclass
class References:
    """Opens engines that are not timed; keeps the eager reference of the last chain open.

    ``threads``: of these engines.
    """

    config: BenchmarkConfig
    threads: int
    _kept: tuple[Spec, Runner] | None = field(default=None, init=False)

    def open(self, spec: Spec) -> Runner:
        """The engine of a variant."""
        from deploykit.engines import open_runner

        config = self.config
        return open_runner(
            spec, threads=self.threads, device=config.device, stated=config.stated, allow_code=config.allow_code
        )

    @contextmanager
    def of(self, found: Judged, fallback: Judged | None) -> Iterator[tuple[Runner, str] | None]:
        """The reference of a variant and its name, noted where it is not the usual one; None where it is compared with none.

        ``found``: gets its parameters and MACs, where a model file tells them. ``fallback``: the baseline; None for itself.
        """
        spec, model = found.spec, found.chain.model
        if model is not None:
            named = {"arch": arch} if (arch := spec.options.get("arch", found.chain.arch)) else {}
            reference = self._eager(Spec("eager", model, REFERENCE, named))
            _count(found, reference)
            yield None if spec.target == REFERENCE and spec.options == named else (reference, "eager")
        elif fallback is not None:
            found.notes.append(
                f"compared with the baseline {fallback.spec.name}: the model file it came from is not known"
            )
            with self.open(fallback.spec) as runner:
                yield runner, fallback.spec.name
        else:
            found.notes.append("not verified: it is the baseline, and its model file is not known")
            yield None

    def _eager(self, model: Spec) -> Runner:
        if self._kept is None or self._kept[0] != model:
            self.close()
            self._kept = (model, self.open(model))
        return self._kept[1]

    def close(self) -> None:
        """Close the reference that is kept."""
        if self._kept is not None:
            self._kept[1].close()
            self._kept = None


def _count(found: Judged, reference: Runner) -> None:
    from deploykit.models import RunsModel, count

    known = reference.preprocessing or found.preprocessing
    if known is None or not isinstance(reference, RunsModel) or reference.loaded.program is not None:
        return
    counts = count(reference.loaded.module, known.size, known.channels)
    found.params, found.macs = counts.params, counts.macs
