"""One variant of a benchmark before it is timed: does it compute the right thing, and how well does it answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.lineage import Chain
from deploykit.base.progress import Progress
from deploykit.base.spec import Spec
from deploykit.base.targets import REFERENCE
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.evaluation.metrics import Metric
from deploykit.evaluation.robustness import Answers, corrupted_answers, judge_corrupted

if TYPE_CHECKING:
    import numpy as np

    from deploykit.base.preprocessing import Preprocessing
    from deploykit.base.runner import Runner
    from deploykit.data import DataSource, Split

PARITY_IMAGES = 128


@dataclass
class Judged:
    """What is known of a variant before it is timed.

    Attributes:
        spec: with its target.
        chain: what it came from.
        fields: of the report's variant.
        logits: float32 [N, C] in the data's class order, or None; only the baseline's are kept.
        predicted: int64 [N], its answers, or None.
        preprocessing: of its engine, or None where it did not open.
        answers: to corrupted pictures, where these were asked for.
    """

    spec: Spec
    chain: Chain
    fields: dict[str, Any]
    logits: np.ndarray | None = None
    predicted: np.ndarray | None = None
    preprocessing: Preprocessing | None = None
    answers: Answers | None = None

    @property
    def ok(self) -> bool:
        """Whether it may be timed."""
        return bool(self.fields["status"] == "ok")

    def fail(self, status: str, reason: str) -> None:
        """Record why it is not timed; the first reason stays."""
        if self.ok:
            self.fields |= {"status": status, "reason": reason}


@dataclass
class Judge:
    """Judges the variants of one benchmark one after the other; keeps the eager reference of the last chain open.

    Attributes:
        config: of the benchmark.
        source: of the pictures.
        split: of the source.
        metrics: custom ones.
        threads: of engines that are not timed.
        progress: where it tells what it does.
    """

    config: BenchmarkConfig
    source: DataSource
    split: Split
    metrics: Mapping[str, Metric]
    threads: int
    progress: Progress
    _reference: tuple[Spec, Runner] | None = field(default=None, init=False)

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
        from deploykit.evaluation.metrics import judge
        from deploykit.evaluation.run_classifier import collect_logits, preprocessing_of
        from deploykit.quantization.lint.explain_audit import audited

        fields: dict[str, Any] = {"name": spec.name, "target": spec.target, "status": "ok", "notes": [*chain.notes]}
        found = Judged(spec, chain, fields)
        name, config = spec.name, self.config
        with self._open(spec) as runner:
            fields["precision"] = runner.precision
            fields["notes"] += list(runner.notes)
            preprocessing = preprocessing_of(runner, self.source, config.size, name, self.progress)
            found.preprocessing = preprocessing
            fixed = runner.inputs[0].fixed_batch
            if fixed is not None and fixed != config.batch:
                raise BadInput(
                    f"{name} takes only batch {fixed}", got=f"--batch {config.batch}", fix=f"--batch {fixed}."
                )
            try:
                self._parity(found, runner, base)
                fields["audit"] = audited(runner)
                logits = collect_logits(
                    runner,
                    self.split,
                    config.eval_batch,
                    config.limit,
                    self.progress,
                    name=name,
                    preprocessing=preprocessing,
                )
                chosen = self.split.chosen(config.limit)
                fields["accuracy"] = judge(
                    logits,
                    self.split.labels[chosen],
                    None if base is None else base.logits,
                    config.ci_level,
                    config.seed,
                    name=name,
                    metrics=self.metrics,
                    classes=tuple(self.split.classes),
                    images=chosen,
                )
                found.logits, found.predicted = logits, logits.argmax(axis=1)
                self._corrupted(found, runner, preprocessing, base)
            except AnswerNo as error:
                found.fail("failed", error.line())
        return found

    def _corrupted(self, found: Judged, runner: Runner, preprocessing: Preprocessing, base: Judged | None) -> None:
        """Accuracy on corrupted pictures, where it is asked for."""
        config = self.config
        if not config.corruptions:
            return
        count, name = config.corruption_images, found.spec.name
        found.answers = corrupted_answers(
            runner, self.split, preprocessing, count, config.eval_batch, config.seed, self.progress, name=name
        )
        labels = self.split.labels[self.split.chosen(count)]
        theirs = None if base is None else base.answers
        found.fields["accuracy"]["robustness"] = judge_corrupted(
            found.answers, theirs, labels, config.ci_level, config.seed
        )

    def _open(self, spec: Spec) -> Runner:
        from deploykit.engines import open_runner

        config = self.config
        return open_runner(
            spec, threads=self.threads, device=config.device, size=config.size, allow_code=config.allow_code
        )

    def _parity(self, found: Judged, runner: Runner, fallback: Judged | None) -> None:
        """Compare with eager fp32 of the last model file in the chain, or with the baseline, and say which."""
        from deploykit.evaluation.compare_runners import parity_of

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
                found.fields["notes"].append(
                    f"compared with the baseline {name}: the model file it came from is not known"
                )
            else:
                found.fields["notes"].append("not verified: it is the baseline, and its model file is not known")
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
        found.fields["parity"] = parity.to_dict()
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
        found.fields |= {"params": counts.params, "macs": counts.macs}

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
