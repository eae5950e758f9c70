"""One variant of a benchmark before it is timed: does it compute the right thing, and how well does it answer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.lineage import Chain
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.base.runner import Runner
from deploykit.base.spec import Spec
from deploykit.base.targets import REFERENCE, Precision
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.evaluation.compare_runners import parity_of
from deploykit.evaluation.run_classifier import preprocessing_of
from deploykit.evaluation.score import Scored, Scoring, score, score_corrupted
from deploykit.quantization.lint.explain_audit import audited
from deploykit.reporting.quality import Accuracy, Parity
from deploykit.reporting.read import plain
from deploykit.reporting.schema import Status

if TYPE_CHECKING:
    from deploykit.data import DataSource, Split

PARITY_IMAGES = 128
_WORSE: tuple[Status, ...] = ("ok", "unsure", "failed", "skipped")


@dataclass
class Judged:
    """What is known of a variant before it is timed.

    Attributes:
        spec: with its target.
        chain: what it came from.
        status: as of the report.
        reason: why not ok.
        opened: its engine was opened, so that it can be timed whatever it answers.
        notes: for the report.
        precision: of its engine.
        audit: what its engine tells of itself.
        parity: with its reference; None where it is the reference, or was not compared.
        accuracy: as of the report.
        params: of the network it came from.
        macs: of one image.
        scored: its answers; only the baseline's are kept.
        predicted: int64 [N], its answers, or None.
        preprocessing: of its engine, or None where it did not open.
    """

    spec: Spec
    chain: Chain
    status: Status = "ok"
    reason: str | None = None
    opened: bool = False
    notes: list[str] = field(default_factory=list)
    precision: Precision | None = None
    audit: dict[str, Any] | None = None
    parity: Parity | None = None
    accuracy: Accuracy | None = None
    params: int | None = None
    macs: int | None = None
    scored: Scored | None = None
    predicted: np.ndarray | None = None
    preprocessing: Preprocessing | None = None

    def __post_init__(self) -> None:
        self.notes = [*self.chain.notes, *self.notes]

    def fail(self, status: Status, reason: str) -> None:
        """Record what is wrong with it; the first reason of the worst status stays, further ones become notes."""
        if _WORSE.index(status) > _WORSE.index(self.status):
            status, reason, self.status, self.reason = self.status, self.reason or "", status, reason
        if reason:
            self.notes.append(f"{status}: {reason}")


@dataclass
class Judge:
    """Judges the variants of one benchmark one after the other; keeps the eager reference of the last chain open.

    Attributes:
        config: of the benchmark.
        source: of the images.
        how: they are scored.
        threads: of engines that are not timed.
        progress: where it tells what it does.
    """

    config: BenchmarkConfig
    source: DataSource
    how: Scoring
    threads: int
    progress: Progress
    _reference: tuple[Spec, Runner] | None = field(default=None, init=False)

    @property
    def split(self) -> Split:
        """Whose images."""
        return self.how.split

    def judge(self, spec: Spec, chain: Chain, base: Judged | None) -> Judged:
        """Open a variant once: parity with its reference, then accuracy.

        Args:
            spec: with its target.
            chain: of its file.
            base: the baseline: what is compared with, and the reference of a variant whose own model file is not known;
                None for itself.

        Raises:
            BadInput: the file is broken, or it is no classifier of this data.
            Unavailable: this machine lacks what its target needs.
        """
        found, name, config = Judged(spec, chain), spec.name, self.config
        with self._open(spec) as runner:
            found.opened, found.precision = True, cast(Precision, runner.precision)
            found.notes += list(runner.notes)
            preprocessing = preprocessing_of(runner, self.source, config.size, name, self.progress)
            found.preprocessing = preprocessing
            fixed = runner.inputs[0].fixed_batch
            if fixed is not None and fixed != config.batch:
                raise BadInput(
                    f"{name} takes only batch {fixed}", got=f"--batch {config.batch}", fix=f"--batch {fixed}."
                )
            try:
                self._parity(found, runner, base)
                found.audit = plain(audited(runner))
                theirs = None if base is None else base.scored
                scored = score(runner, preprocessing, self.how, theirs, self.progress, name=name)
                found.scored, found.accuracy = scored, scored.accuracy
                found.predicted = scored.logits.argmax(axis=1)
                score_corrupted(scored, runner, preprocessing, self.how, theirs, self.progress, name=name)
            except AnswerNo as error:
                found.fail("failed", error.line())
        return found

    def _open(self, spec: Spec) -> Runner:
        from deploykit.engines import open_runner

        config = self.config
        return open_runner(
            spec, threads=self.threads, device=config.device, size=config.size, allow_code=config.allow_code
        )

    def _parity(self, found: Judged, runner: Runner, fallback: Judged | None) -> None:
        """Compare with eager fp32 of the last model file in the chain, or with the baseline, and say which."""
        spec, model = found.spec, found.chain.model
        with ExitStack() as stack:
            if model is not None:
                named = {"arch": arch} if (arch := spec.options.get("arch", found.chain.arch)) else {}
                reference, name = self._eager(Spec("eager", model, REFERENCE, named)), "eager"
                self._count(found, reference)
                if spec.target == REFERENCE and spec.options == named:
                    return  # it is the reference itself
            elif fallback is not None:
                reference, name = stack.enter_context(self._open(fallback.spec)), fallback.spec.name
                found.notes.append(f"compared with the baseline {name}: the model file it came from is not known")
            else:
                found.notes.append("not verified: it is the baseline, and its model file is not known")
                return
            parity = parity_of(
                reference,
                runner,
                self.pictures(),
                sorted({1, 2, 8, self.config.batch}),
                runner.precision,
                self.progress,
                name=name,
                columns=_columns(reference.classes, runner.classes),
            )
        found.parity = Parity.model_validate({**parity.to_dict(), "split": self.split.name})
        if not parity.ok:
            found.fail("failed", "parity: " + "; ".join(parity.reasons))

    def pictures(self) -> Sequence[np.ndarray]:
        """Up to 128 pictures spread evenly over the split."""
        return [self.split.image(int(i)) for i in self.split.chosen(PARITY_IMAGES, "ends")]

    def _eager(self, model: Spec) -> Runner:
        if self._reference is None or self._reference[0] != model:
            self.close()
            self._reference = (model, self._open(model))
        return self._reference[1]

    def _count(self, found: Judged, reference: Runner) -> None:
        from deploykit.models import RunsModel, count

        known = reference.preprocessing or found.preprocessing
        if known is None or not isinstance(reference, RunsModel) or reference.loaded.program is not None:
            return
        counts = count(reference.loaded.module, known.size)
        found.params, found.macs = counts.params, counts.macs

    def close(self) -> None:
        """Close the reference."""
        if self._reference is not None:
            self._reference[1].close()
            self._reference = None


def _columns(reference: tuple[str, ...] | None, candidate: tuple[str, ...] | None) -> list[int] | None:
    if reference is None or candidate is None or reference == candidate:
        return None
    if sorted(reference) != sorted(candidate):
        raise AnswerNo("its classes are not those of the model it came from")
    return [candidate.index(name) for name in reference]
