"""The steps of one pruning: score, choose, cut, re-calibrate, until the budget holds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal, TypedDict

import numpy as np
from torch import Tensor

from deploykit.base.choices import Choices
from deploykit.base.environment import chosen_device
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.base.targets import ORT_CPU
from deploykit.config.prune import PruneConfig
from deploykit.config.registries import CRITERIA
from deploykit.models import Counts, LoadedModel, count
from deploykit.models.device import placed
from deploykit.pruning import exactness
from deploykit.pruning.allocation import allocated_widths
from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.check_graph import prunable_graph, told_kept
from deploykit.pruning.exactness import inexact_groups
from deploykit.pruning.group_cost import Costs
from deploykit.pruning.importance import Given, channel_scores
from deploykit.pruning.importance_images import PruningPictures
from deploykit.pruning.latency.cost import layer_shapes
from deploykit.pruning.latency.layer_times import BuildPlan, measure_on
from deploykit.pruning.latency.width_choices import LatencyChoice, Widths, replayed_widths, told_widths
from deploykit.pruning.latency.width_search import LatencyFacts, LatencySearch
from deploykit.pruning.layer_table import PrunedLayer, layer_rows
from deploykit.pruning.prune_channels import (
    Plan,
    check_floor,
    costs_of,
    keep_layers,
    pinned,
    plan,
    removal,
    sized,
    step_budgets,
    tell_widths,
    undershot,
    widths_for,
)
from deploykit.pruning.restoration import ReconstructionFacts, Restoration
from deploykit.pruning.sparsity import (
    SparsityFacts,
    apply_masks,
    eligibility,
    pattern_masks,
    sparsity_facts,
    unstructured_masks,
    without_masks,
)
from deploykit.pruning.surgery import no_atoms, remove
from deploykit.pruning.trace import copy_on


class Kept(TypedDict):
    """A count before and after, and the fraction that is left."""

    before: int
    after: int
    kept: float


class PruneFacts(TypedDict):
    """What a manifest keeps of a pruning.

    ``budget``: its name → the fraction asked for. ``kept``: layer → why its width stays. ``top1_select``: ``before``,
    ``one_shot``, ``recalibrated`` and ``reconstructed``; None without data. ``reconstruction``: what least squares did. ``sparsity``: of masks. ``two_of_four``: layers ``eligible`` for 2:4,
    of all ``layers``. ``latency``: of a latency budget, without its times.
    """

    macs: Kept
    params: Kept
    budget: dict[str, float] | None
    importance: str
    scope: str
    layers: list[PrunedLayer]
    kept: dict[str, str]
    top1_select: dict[str, float | None] | None
    reconstruction: ReconstructionFacts | None
    sparsity: SparsityFacts | None
    two_of_four: dict[str, int]
    latency: LatencyChoice | None


class Cutter:
    """Narrows one loaded network in place.

    ``loaded``: its module is changed. ``pictures``: None without data. ``build``: of TensorRT's plans that a latency
    budget times. ``choices``: widths to replay for one, or None. ``masks``: weight name → mask, or None. ``layers``: rows
    of the layer table. ``accuracy``: top-1 before, one_shot, recalibrated, reconstructed; None without data. ``widths``: after each step.
    ``latency``: what a latency budget came to, as measured; None without one or where choices are replayed.
    ``layers_ms``: the table of layers that it was measured by, shape → milliseconds.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        preprocessing: Preprocessing,
        config: PruneConfig,
        pictures: PruningPictures | None,
        build: BuildPlan,
        choices: Choices | None,
        progress: Progress,
    ) -> None:
        self.module, self.preprocessing, self.config = loaded.module, preprocessing, config
        self.pictures, self.build, self.choices, self.progress = pictures, build, choices, progress
        self.device = chosen_device(config.device)
        self.order = None if pictures is None else pictures.order(loaded, progress)
        classifies = loaded.task == "classify" and pictures is not None and pictures.select.labelled
        self.restoration = (
            Restoration(pictures, preprocessing, self.order, classifies, config, self.device, progress)
            if pictures
            else None
        )
        self.reconstruction: ReconstructionFacts | None = None
        self.masks: dict[str, Tensor] | None = None
        self.layers: list[PrunedLayer] = []
        self.accuracy: dict[str, float | None] | None = None
        self.widths: list[Widths] = []
        self.latency: LatencyFacts | None = None
        self.layers_ms: dict[str, float] = {}

    def cut(self) -> PruneFacts:
        """Prune."""
        size, config = self.preprocessing.size, self.config
        before = count(self.module, size, self.preprocessing.channels)
        unmasked = self._unmasked()
        times = self._layer_times()
        top1 = self._top1()
        kept: dict[str, str] = {}
        one_shot, recalibrated, reconstructed = top1, None, None
        if config.budget is not None or config.ratios:
            kept, one_shot, recalibrated = self._channels(before)
            if self.reconstruction is not None and self.reconstruction["kept"]:
                reconstructed = self._top1()
        if config.pattern is not None or config.unstructured is not None:
            sparsity = self._mask(unmasked)
            one_shot, recalibrated, reconstructed = self._top1(), None, None
            if self._recalibrate():
                recalibrated = self._top1()
        else:
            sparsity = None
        after = count(self.module, size, self.preprocessing.channels)
        counts = {"macs": _kept(before.macs, after.macs), "params": _kept(before.params, after.params)}
        name, asked = config.budget or ("", 1.0)
        if name in counts and (line := undershot(name, asked, counts[name]["kept"], config.round_to)) is not None:
            self.progress.say(line)
        self.layers = layer_rows(before, after)
        if config.layer_times:
            shorter = self._layer_times()
            for row in self.layers:
                row["ms"] = [times.get(row["name"]), shorter.get(row["name"])]
        if top1 is not None:
            self.accuracy = {"before": top1, "one_shot": one_shot, "recalibrated": recalibrated}
            self.accuracy["reconstructed"] = reconstructed
        eligible = eligibility(self.module).values()  # for the 2:4 pattern of a sparse engine
        return {
            "macs": counts["macs"],
            "params": counts["params"],
            "budget": None if config.budget is None else {config.budget[0]: config.budget[1]},
            "importance": config.importance,
            "scope": config.scope,
            "layers": layer_rows(before, after),
            "kept": kept,
            "top1_select": self.accuracy,
            "reconstruction": self.reconstruction,
            "sparsity": sparsity,
            "two_of_four": {"eligible": sum(why is None for why in eligible), "layers": len(eligible)},
            "latency": None,
        }

    def measured(self) -> dict[str, Any]:
        """What differs from one making to the next: times."""
        found: dict[str, Any] = {} if self.latency is None else {"latency": self.latency}
        return found | ({"layers": self.layers} if self.config.layer_times else {})

    def _channels(self, before: Counts) -> tuple[dict[str, str], float | None, float | None]:
        """All steps; returns why layers stay, top-1 after the last cut and after re-calibration."""
        config, progress = self.config, self.progress
        size, channels = self.preprocessing.size, self.preprocessing.channels
        graph = keep_layers(prunable_graph(self.module, size, progress, channels), config.keep)
        ratios = sized(graph, config.ratios)
        sparse = config.pattern is not None
        how = plan(graph, config.scope, config.round_to, ratios, config.importance, sparse=sparse)
        masks = sparse or config.unstructured is not None
        tell_widths(graph, ratios, how, progress, alone=config.budget is None and not masks)
        costs = costs_of(self.module, graph, before.macs)
        name, fraction = config.budget or ("macs", 1.0)
        total: float = before.params if name == "params" else before.macs
        cost: Callable[[np.ndarray], float] = costs.params if name == "params" else costs.macs
        if config.budget is not None and name != "latency":
            check_floor(fraction, name, total, cost, how)
        one_shot, recalibrated, kept = None, None, dict(graph.kept)
        whole, first, gone = copy_on("cpu", self.module).eval(), graph, no_atoms(graph)
        budgets = step_budgets(total, fraction, config.steps) if config.budget else [float("inf")]
        with ExitStack() as stack, progress.task("prune", len(budgets), "steps") as bar:
            search = self._search(graph, costs, how, stack) if name == "latency" and self.choices is None else None
            for step, budget in enumerate(budgets):
                scores = self._scores(graph)
                while True:
                    if search is not None:
                        search.how = how
                        widths, self.latency = search.widths(budget / total, self.module, graph, scores)
                        self.layers_ms = search.layers_ms
                    elif self.choices is not None:
                        widths = replayed_widths(self.choices.chosen["widths"][step], graph, how)
                    elif how.scope == "allocated" and config.budget is not None:
                        unit: Literal["macs", "params"] = "params" if name == "params" else "macs"
                        widths = allocated_widths(budget, unit, costs, graph, how, scores)
                    else:
                        widths = widths_for(budget, cost, graph, how, scores)
                    removed = removal(graph, scores, widths)
                    if not (inexact := inexact_groups(self.module, graph, removed)):
                        break
                    how = pinned(how, graph, inexact)  # at other widths they could go: those of the trial
                    kept |= {layer: exactness.WHY for group in inexact for layer in group.producers}
                    progress.say(told_kept([layer for group in inexact for layer in group.producers], exactness.WHY))
                    if config.budget is not None and name != "latency":
                        check_floor(fraction, name, total, cost, how)
                self.widths.append(told_widths(graph, widths))
                gone |= removed
                remove(self.module, graph, removed)
                graph = graph.after(removed)
                one_shot, recalibrated = self._top1(), None
                if self._recalibrate():
                    recalibrated = self._top1()
                bar.advance(1)
        if self.restoration is not None and (found := self.restoration.weights(whole, self.module, first, gone)):
            self.module, self.reconstruction = found
        return kept, one_shot, recalibrated

    def _search(self, graph: Graph, costs: Costs, how: Plan, stack: ExitStack) -> LatencySearch:
        found = LatencySearch(self.module, graph, costs, how, self.config, self.build, self.progress)
        return stack.enter_context(found)

    def _scores(self, graph: Graph) -> list[np.ndarray]:
        config = self.config
        given = Given(seed=config.seed, progress=self.progress)
        if not CRITERIA[config.importance].from_data:
            return channel_scores(self.module, graph, config.importance, given)
        assert self.pictures is not None  # the configuration asks for data
        batches = self.pictures.batches(self.preprocessing, self.order)
        with placed(self.module, self.device):
            return channel_scores(self.module, graph, config.importance, replace(given, batches=batches))

    def _unmasked(self) -> set[str]:
        """Layers that masks are to leave whole; told of before any work where no graph of channels knows them."""
        config = self.config
        return without_masks(self.module, config.keep) if config.pattern or config.unstructured else set()

    def _mask(self, kept: set[str]) -> SparsityFacts:
        if self.config.pattern is not None:
            self.masks = pattern_masks(self.module, kept)
        else:
            assert self.config.unstructured is not None
            self.progress.warn("unstructured pruning is an experiment: no engine here is faster for it")
            self.masks = unstructured_masks(self.module, self.config.unstructured, kept)
        apply_masks(self.module, self.masks)
        facts = sparsity_facts(self.module, self.masks, self.config.pattern, kept)
        layers = facts["layers"] + len(facts["not_eligible"])
        self.progress.say(
            f"masks in {facts['layers']} of {layers} layers: {facts['zeros'] / facts['weights']:.0%} of their weights are zero"
        )
        return facts

    def _recalibrate(self) -> bool:
        """Estimate BatchNorm anew where there are images and layers for it."""
        return self.restoration is not None and self.restoration.batch_norm(self.module)

    def _layer_times(self) -> dict[str, float]:
        """Milliseconds of each layer alone on ONNX Runtime's CPU provider, one thread, batch 1; empty where not asked for."""
        if not self.config.layer_times:
            return {}
        shapes = layer_shapes(self.module, self.preprocessing.shape)
        times = measure_on(ORT_CPU, 1, self.progress)(list(shapes.values()))
        return dict(zip(shapes, times, strict=True))

    def _top1(self) -> float | None:
        return None if self.restoration is None else self.restoration.top1(self.module)


def _kept(before: int, after: int) -> Kept:
    return {"before": before, "after": after, "kept": after / before if before else 1.0}
