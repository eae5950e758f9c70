"""Widths for a latency budget: allocated by the table of layers, then the whole network measured and the budget corrected."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from deploykit.base.errors import AnswerNo
from deploykit.base.progress import Progress
from deploykit.base.runner import Runner
from deploykit.config.prune import PruneConfig
from deploykit.exporting.exporters import export_with
from deploykit.latency.interleave import interleaved_s
from deploykit.pruning.allocation import Allocation, allocate, choices
from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.group_cost import Costs
from deploykit.pruning.importance import Scores
from deploykit.pruning.latency.cost import LatencyCost, layer_shapes
from deploykit.pruning.latency.layer_times import BuildPlan, keep_times, known_times, measure_on, open_on, table_file
from deploykit.pruning.latency.table import LatencyTable
from deploykit.pruning.prune_channels import Plan, removal, too_small
from deploykit.pruning.surgery import remove
from deploykit.pruning.widths import TooSmall

TRIES = 8
NEAR = 0.97
"""A network that takes this share of the budget or more is near enough to it."""
LOWER = 0.95
"""What the aim is multiplied with where it gives widths that were too much already."""
ROUNDS = 15
LEAST_OF = 30


@dataclass(frozen=True)
class Try:
    """One allocation, and what its network took when measured as a whole.

    ``predicted``: time over the input network's, by the table. ``measured``: the same, measured interleaved. ``ms``:
    milliseconds of the network. ``input_ms``: of the input network in the same measurement. ``loss``: importance lost,
    in the allocation's unit.
    """

    widths: tuple[int, ...]
    predicted: float
    measured: float
    ms: float
    input_ms: float
    loss: float


class LatencyFacts(TypedDict):
    """What a latency budget came to; ``asked``, ``measured`` and ``predicted`` are shares of the input network's time,
    ``prediction_error`` is predicted over measured, less 1.
    """

    target: str
    threads: int
    asked: float
    measured: float
    predicted: float
    prediction_error: float
    input_ms: float
    ms: float
    tries: list[dict[str, float]]
    shapes_measured: int


class LatencySearch:
    """Finds widths for a fraction of a network's latency on a target (fp32, batch 1); use it as a context manager.

    ``module``: the input network, on the CPU; it may change after entering. ``how``: ladders of the groups, and what
    their scores mean. ``config``: what times it, and the fraction that is to be reached in the end; steps before it may
    have wider ones. ``build``: of TensorRT's plans, see :func:`deploykit.pruning.latency.layer_times.open_on`.
    """

    def __init__(
        self,
        module: nn.Module,
        graph: Graph,
        costs: Costs,
        how: Plan,
        config: PruneConfig,
        build: BuildPlan,
        progress: Progress,
    ) -> None:
        assert config.latency is not None
        self.module, self.shape, self.costs, self.how, self.asked = module, graph.shape, costs, how, config.latency
        self.target, self.threads = config.target, config.threads or 1
        self.build, self.progress = build, progress

    def __enter__(self) -> LatencySearch:
        """Open the input network on the target and measure its layers at the widths they may have.

        Raises:
            BadInput: the table's narrowest widths take longer than what is asked; the floor is said.
        """
        measure = measure_on(self.target, self.threads, self.progress, self.build)
        place = table_file(self.target, self.threads)
        known = known_times(place)
        before = len(known)
        self.stack = ExitStack()
        with ExitStack() as guard:
            self.scratch = Path(guard.enter_context(TemporaryDirectory(prefix="deploykit-")))
            self.base = guard.enter_context(self._runner(self.module, self.scratch / "input.onnx"))
            table = LatencyTable(measure, known)
            shapes = layer_shapes(self.module, self.shape)
            self.cost = LatencyCost(self.costs, shapes, table, self.how.ladders, self._least_ms(self.base))
            keep_times(place, known, self.target, self.threads, self.progress)
            self.measured_shapes = len(known) - before
            self.layers_ms = table.used()
            self.full = self.cost.total(self.costs.widths.tolist())
            floor_ms = self.cost.total([one.widths[0] for one in self.how.ladders])
            if floor_ms > self.asked * self.full:
                raise too_small(TooSmall(floor_ms), self.asked, "latency", self.full)
            self.stack = guard.pop_all()
        return self

    def __exit__(self, *reason: object) -> None:
        """Close the input network's runner."""
        self.stack.close()

    def widths(
        self, fraction: float, module: nn.Module, graph: Graph, scores: Scores
    ) -> tuple[np.ndarray, LatencyFacts]:
        """The widths, int [groups], whose network measures at most ``fraction`` of the input's time, and what was found.

        The table does not know what happens between layers, so its prediction is corrected by measuring the whole
        network that it proposes, up to :data:`TRIES` times.

        ``fraction``: of the input network's latency, at most. ``module``: the network as it is now; it is not changed.
        ``scores``: of each group's channels.

        Raises:
            AnswerNo: no try measured within the budget.
        """
        offered = choices(graph, self.how, scores)
        tries: list[Try] = []
        aim, low, high = fraction, 0.0, inf
        for _ in range(TRIES):
            found = allocate(offered, self.cost, aim * self.full)
            if any(found.widths == one.widths for one in tries):
                if any(one.measured <= fraction for one in tries):
                    break
                aim *= LOWER  # the same widths again, and they were too much
                continue
            tries.append(self._tried(found, module, graph, scores))
            self.progress.say(
                f"latency: predicted {tries[-1].predicted:.3f}, measured {tries[-1].measured:.3f} of the input network, "
                f"asked {fraction:g}"
            )
            if NEAR * fraction <= tries[-1].measured <= fraction:
                break
            if tries[-1].measured > fraction:
                high = min(high, aim)
            else:
                low = max(low, aim)
            aim *= (0.99 if tries[-1].measured > fraction else 0.995) * fraction / tries[-1].measured
            if not low < aim < high:  # the whole falls in stairs too: look between what was too much and what was not
                aim = (low + high) / 2
        within = [one for one in tries if one.measured <= fraction]
        if not within and fraction > self.asked:  # a step on the way: the next one sees to it
            within = [min(tries, key=lambda one: one.measured)]
        if not within:
            raise AnswerNo(
                f"no widths measured within --latency {self.asked:g} on {self.target}",
                got=f"{min(one.measured for one in tries):.3f} at best",
                fix="Ask for more, use a smaller --round-to, or measure on a quiet machine.",
            )
        chosen = min(within, key=lambda one: one.loss)
        return np.array(chosen.widths, dtype=np.int64), self._facts(fraction, chosen, tries)

    def _facts(self, fraction: float, chosen: Try, tries: Sequence[Try]) -> LatencyFacts:
        return {
            "target": self.target,
            "threads": self.threads,
            "asked": fraction,
            "measured": round(chosen.measured, 4),
            "predicted": round(chosen.predicted, 4),
            "prediction_error": round(chosen.predicted / chosen.measured - 1, 4),
            "input_ms": round(chosen.input_ms, 4),
            "ms": round(chosen.ms, 4),
            "tries": [{"predicted": round(one.predicted, 4), "measured": round(one.measured, 4)} for one in tries],
            "shapes_measured": self.measured_shapes,
        }

    def _tried(self, found: Allocation, module: nn.Module, graph: Graph, scores: Scores) -> Try:
        candidate = copy.deepcopy(module)
        remove(candidate, graph, removal(graph, scores, np.array(found.widths, dtype=np.int64)))
        path = self.scratch / "try.onnx"
        with self._runner(candidate, path) as runner:
            times = self._times({"input": self.base, "pruned": runner})
        path.unlink()
        ratio = times["pruned"] / times["input"]
        return Try(found.widths, found.cost / self.full, ratio, times["pruned"], times["input"], found.loss)

    def _runner(self, module: nn.Module, path: Path) -> Runner:
        example = torch.zeros(1, *self.shape)
        training = module.training
        try:
            model = _exported(export_with, module.eval(), example, path.parent)
        finally:
            module.train(training)
        ir.save(model, path)
        return open_on(path, self.target, self.threads, self.build)

    def _least_ms(self, runner: Runner) -> float:
        """The least of many calls, which is what the table's times are: other work only ever adds."""
        x = self._picture()
        times = []
        for _ in range(LEAST_OF):
            begun = time.perf_counter()
            runner(x)
            times.append(time.perf_counter() - begun)
        return 1e3 * min(times)

    def _picture(self) -> np.ndarray:
        return np.random.default_rng(0).standard_normal((1, *self.shape), dtype=np.float32)

    def _times(self, runners: dict[str, Runner]) -> dict[str, float]:
        """Milliseconds a call."""
        times_s = interleaved_s(runners, self._picture(), rounds=ROUNDS)
        return {name: 1e3 * time_s for name, time_s in times_s.items()}


def _exported(export_with: Any, module: nn.Module, example: Any, folder: Path) -> Any:
    """The graph for timing alone: the quick exporter, the other where it fails."""
    try:
        return export_with("torchscript", module, example, ["output"], 17, dynamic=False, folder=folder)[0]
    except AnswerNo:
        return export_with("dynamo", module, example, ["output"], 20, dynamic=False, folder=folder)[0]
