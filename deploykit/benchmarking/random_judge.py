"""Variants judged on random input before they are timed: graphs whose data nobody has, whatever their outputs mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.lineage import Chain
from deploykit.base.progress import Progress
from deploykit.base.runner import Runner
from deploykit.base.spec import Spec
from deploykit.base.targets import Precision
from deploykit.benchmarking.variant import Judged, References, bars_of
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.engines.random_input import input_shapes, rows_of
from deploykit.evaluation.random_parity import judged_on_random, parity_on_random
from deploykit.latency.timed_input import RandomInput, TimedInput
from deploykit.quantization.lint.explain_audit import audited
from deploykit.reporting.read import plain


@dataclass
class RandomJudge:
    """Judges the variants of one benchmark by parity alone, where their outputs fit one another.

    Attributes:
        config: of the benchmark; its ``batch`` becomes what the graphs take.
        references: opens engines that are not timed.
        progress: where it tells what it does.
    """

    config: BenchmarkConfig
    references: References
    progress: Progress
    split: None = None

    def judge(self, spec: Spec, chain: Chain, base: Judged | None) -> Judged:
        """Open a variant once and compare it with its reference.

        Args:
            spec: with its target.
            chain: of its file.
            base: the baseline; None for itself.

        Raises:
            BadInput: the file is broken, a size is not named, or it takes another number of rows than the baseline.
            Unavailable: this machine lacks what its target needs.
        """
        found, config = Judged(spec, chain), self.config
        with self.references.open(spec) as runner:
            found.opened, found.precision = True, cast(Precision, runner.precision)
            found.preprocessing = runner.preprocessing
            found.notes += list(runner.notes)
            shapes = input_shapes(runner, config.shapes, config.batch)
            told = "; ".join(f"{one.name} {list(shapes[one.name])} {one.dtype}" for one in runner.inputs)
            found.notes.append(f"timed on random input, seed {config.seed}: {told}")
            self._settle_batch(spec.name, rows_of(shapes), base)
            try:
                self._parity(found, runner, base)
                found.audit = plain(audited(runner))
            except AnswerNo as error:
                found.fail("failed", error.line())
        return found

    def _settle_batch(self, name: str, rows: int, base: Judged | None) -> None:
        """Let the first graph say how many rows a run has, where only it can."""
        config = self.config
        if rows == config.batch:
            return
        if base is not None or config.batch != 1:
            raise BadInput(
                f"{name} takes {rows} rows a run",
                got=f"--batch {config.batch}" if base is None else f"{config.batch} rows of {base.spec.name}",
                expected="the same of all",
                fix=f"--batch {rows}.",
            )
        self.progress.say(f"{name} takes {rows} rows a run: this is the batch that is timed")
        self.config = config.but(batch=rows)

    def _parity(self, found: Judged, runner: Runner, base: Judged | None) -> None:
        with self.references.of(found, base) as compared:
            if compared is None:
                return
            reference, name = compared
            config, precision = self.config, runner.precision
            try:
                parity = parity_on_random(
                    reference,
                    runner,
                    config.shapes,
                    (config.batch,),
                    precision,
                    self.progress,
                    seed=config.seed,
                    name=name,
                )
            except BadInput as error:
                found.notes.append(f"not compared with {name}: {error.line()}")
                return
        found.take(parity, judged_on_random(parity, precision, bars_of(found, config)))

    def timed_input(self, one: Judged) -> TimedInput:
        """What a variant is timed with."""
        return RandomInput(self.config.shapes, self.config.batch, self.config.seed)

    def keep(self, one: Judged, folder: Path) -> None:
        """Nothing: there are no answers worth keeping."""

    def close(self) -> None:
        """Close what is open."""
        self.references.close()
