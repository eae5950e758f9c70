"""Variants judged on images before they are timed: do they compute the right thing, and how well do they answer."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.lineage import Chain
from deploykit.base.progress import Progress
from deploykit.base.runner import Runner
from deploykit.base.spec import Spec
from deploykit.base.targets import Precision
from deploykit.benchmarking.variant import Judged, References, bars_of
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.evaluation.compare_runners import parity_of
from deploykit.evaluation.judge import judge, settles
from deploykit.evaluation.judging_images import LOOKS, calibrated_by, judging_images
from deploykit.evaluation.run_classifier import collect_logits, preprocessing_of
from deploykit.evaluation.score import Scoring, quality_by_answers, save_logits_of, score, score_corrupted
from deploykit.evaluation.split_images import Pictures
from deploykit.latency.timed_input import ImageInput, TimedInput
from deploykit.quantization.lint.explain_audit import audited
from deploykit.reporting.read import plain

if TYPE_CHECKING:
    from deploykit.data import DataSource, Split


@dataclass
class ImageJudge:
    """Judges the variants of one benchmark on images, one after the other: by parity and by their answers.

    Attributes:
        config: of the benchmark.
        source: of the images.
        how: they are scored.
        references: opens engines that are not timed.
        progress: where it tells what it does.
    """

    config: BenchmarkConfig
    source: DataSource
    how: Scoring
    references: References
    progress: Progress
    _timed: list[np.ndarray] = field(default_factory=list, init=False)

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
        with self.references.open(spec) as runner:
            found.opened, found.precision, found.task = True, cast(Precision, runner.precision), runner.task
            found.notes += list(runner.notes)
            preprocessing = preprocessing_of(runner, self.source.natural_size, config.stated, name, self.progress)
            found.preprocessing = preprocessing
            fixed = runner.inputs[0].fixed_batch
            if fixed is not None and fixed != config.batch:
                raise BadInput(
                    f"{name} takes only batch {fixed}", got=f"--batch {config.batch}", fix=f"--batch {fixed}."
                )
            try:
                self._parity(found, runner, base)
                found.audit = plain(audited(runner))
                if runner.task != "classify":
                    return found
                if not self.split.labelled:
                    self._agreement(found, runner, base)
                    return found
                theirs = None if base is None else base.scored
                scored = score(runner, preprocessing, self.how, theirs, self.progress, name=name)
                found.scored, found.accuracy, found.judged_among = scored, scored.accuracy, scored.judged_among
                found.predicted = scored.logits.argmax(axis=1)
                score_corrupted(scored, runner, preprocessing, self.how, theirs, self.progress, name=name)
            except AnswerNo as error:
                found.fail("failed", error.line())
        return found

    def _parity(self, found: Judged, runner: Runner, fallback: Judged | None) -> None:
        with self.references.of(found, fallback) as compared:
            if compared is None:
                return
            reference, name = compared
            precision, bars = runner.precision, bars_of(found, self.config)
            seen = self._seen(found)
            parity = parity_of(
                reference,
                runner,
                seen.images,
                sorted({1, 2, 8, self.config.batch}),
                precision,
                self.progress,
                name=name,
                columns=_columns(reference.classes, runner.classes),
                until=settles(precision, bars),
            )
        found.take(parity, judge(parity, parity.answers, precision, bars, split=seen.shown))

    def _agreement(self, found: Judged, runner: Runner, base: Judged | None) -> None:
        """Compare its answers with the baseline's, where no label says which are right."""
        how, name = self.how, found.spec.name
        assert found.preprocessing is not None
        logits = collect_logits(
            runner, how.split, how.batch, how.limit, self.progress, name=name, preprocessing=found.preprocessing
        )
        if not np.isfinite(logits).all():
            raise AnswerNo(f"{name}: NaN or infinite logits")
        found.classes = runner.classes
        columns = None if base is None else _columns(base.classes, runner.classes)
        found.predicted = (logits if columns is None else logits[:, columns]).argmax(axis=1)
        if base is None or base.predicted is not None:
            found.quality = quality_by_answers(found.predicted, None if base is None else base.predicted, how)

    def _seen(self, found: Judged) -> Pictures:
        """What it is judged on: what no calibration saw; of data that have only a test split, that."""
        try:
            train = self.source.split("train")
        except BadInput:
            chosen = self.split.chosen(LOOKS[-1]).tolist()
            return Pictures([self.split.image(i) for i in chosen], "data", split=self.split.name)
        return judging_images(self.source, calibrated_by(found.spec.path, train))

    def timed_input(self, one: Judged) -> TimedInput:
        """What a variant is timed with: images of the split, spread evenly, decoded."""
        assert one.preprocessing is not None
        if not self._timed:
            few = [self.split.image(int(i)) for i in self.split.chosen(self.config.batch, "ends")]
            self._timed = list(itertools.islice(itertools.cycle(few), self.config.batch))
        return ImageInput(self._timed, one.preprocessing)

    def keep(self, one: Judged, folder: Path) -> None:
        """Save the answers of a variant below the report's folder."""
        if one.scored is not None:
            save_logits_of(one.scored, self.how, folder, one.spec.name)

    def close(self) -> None:
        """Close what is open."""
        self.references.close()


def _columns(reference: tuple[str, ...] | None, candidate: tuple[str, ...] | None) -> list[int] | None:
    if reference is None or candidate is None or reference == candidate:
        return None
    if sorted(reference) != sorted(candidate):
        raise AnswerNo("its classes are not those of the model it came from")
    return [candidate.index(name) for name in reference]
