"""``deploykit prune``: a model file → a narrower one that loads, trains, exports and prunes again like any other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploykit.base.artifact import Made, Manifest, Parent
from deploykit.base.checkpoint import check_file
from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.base.targets import target_of
from deploykit.commands.build import build
from deploykit.commands.stage import (
    Opener,
    Planned,
    Stage,
    data_parents,
    file_parent,
    make_artifact,
    opener,
    output_path,
    recorded,
)
from deploykit.config.build import BuildConfig
from deploykit.config.keywords import by_keywords
from deploykit.config.prune import PruneConfig
from deploykit.pruning.importance_images import pruning_pictures
from deploykit.pruning.latency.layer_times import timing_of
from deploykit.pruning.latency.width_choices import choices_for
from deploykit.pruning.pruned_file import prune_file
from deploykit.reporting.format import percent

STAGE = Stage("prune", 6, ("deploykit", "torch", "torchvision", "timm", "numpy"))


@dataclass(frozen=True)
class PruneResult(Made):
    """What a pruning made.

    Attributes:
        output: the model file.
        made: False where the identical file was there already.
        facts: macs and params (each before, after, kept: fraction), budget, importance, scope, layers (name, type, width,
            macs and params before and after), kept (layer → why its width stays), top1_select (before, one_shot,
            recalibrated, reconstructed; None without data), reconstruction (of least squares: layers, images, kept, top1_select and
            nearness_db before and after; None where it was not tried), sparsity (of masks, or None), two_of_four (layers eligible for 2:4, of all), latency (of a latency budget: target, threads, asked, choices; or None).
        measured: latency (of a latency budget that was measured: measured, predicted, ms, input_ms, tries …), layers (as in
            facts, with ms, where --layer-times asked for it).
    """

    def summary(self) -> str:
        """For people."""
        if not self.made:
            return f"{self.output} is up to date: same model, data, options and versions; nothing done"
        facts = self.facts
        macs, params, top1 = facts["macs"], facts["params"], facts["top1_select"]
        text = (
            f"{self.output}: {percent(macs['kept'], 1)} of the MACs ({macs['after'] / 1e6:.1f} M), "
            f"{percent(params['kept'], 1)} of the parameters ({params['after'] / 1e6:.2f} M)"
        )
        if latency := self.measured.get("latency"):
            text += (
                f", measured {percent(latency['measured'], 1)} of the latency on {latency['target']} "
                f"({latency['ms']:.3g} of {latency['input_ms']:.3g} ms; the layer table predicted "
                f"{percent(latency['predicted'], 1)})"
            )
        elif facts["latency"]:
            text += f", widths replayed for {percent(facts['latency']['asked'], 1)} of the latency on {facts['latency']['target']}"
        if facts["sparsity"]:
            text += f", masks in {facts['sparsity']['layers']} layers"
        if top1 is not None:
            after = next(top1[step] for step in ("reconstructed", "recalibrated", "one_shot") if top1[step] is not None)
            text += f"; top-1 on select {100 * top1['before']:.2f} → {percent(after)} before any training"
        return text


@by_keywords(PruneConfig, modules=("model",))
def prune(
    model: Path | str,
    output: Path | str | None = None,
    config: PruneConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> PruneResult:
    """Remove channels from ``model`` until a budget holds.

    The fraction in ``config`` is what is kept of the input model. The result is at most that, and no group of channels could be
    one rounding step wider.

    Args:
        model: a model file of tensors (``.pt``, ``.safetensors``).
        output: default: beside the model, ``model.pruned50.pt``.
        config: the budget, and how.
        force: replace an output that is not ours.
        progress: where it shows.

    Raises:
        BadInput: no budget or one that cannot be reached (the floor is said), unknown layers, a network or data that do not fit.
        AnswerNo: a latency budget that the measured whole misses.
    """
    if config is None:
        raise BadInput("no budget", expected="macs, params or latency (the fraction kept)")
    source = check_file(Path(model))
    target = output_path(output, source.with_name(f"{source.stem}.{suffix(config)}.pt"), ".pt", source)
    data = opener(config.data, allow_code=config.allow_code, skip_broken=config.skip_broken, progress=progress)

    def plan() -> Planned:
        pictures = None if config.data is None else pruning_pictures(config, data())
        manifest = planned(source, target, config, data)

        def make() -> Manifest:
            return prune_file(source, target, config, manifest, pictures, built_plan, force=force, progress=progress)

        return Planned(manifest, make)

    manifest, made = make_artifact(target, plan, force=force, progress=progress)
    return PruneResult(target, made, manifest.facts, manifest.measured)


def planned(source: Path, target: Path, config: PruneConfig, data: Opener) -> Manifest:
    """The manifest of the narrowed ``source`` before it is made."""
    parents = [file_parent(source, target)]
    if config.data is not None:
        parents += data_parents(config.data, data(), "train", "select")
    if (choices := choices_for(config, parents[0].sha256)) is not None:
        parents.append(Parent("choices", choices.sha256, name=Path(str(config.choices)).name))
    versions, hardware = timing_of(config.target) if config.latency and choices is None else ({}, {})
    kept = recorded(config, "choices")
    return STAGE.manifest("model", kept, parents, precision="fp32", versions=versions, hardware=hardware)


def suffix(config: PruneConfig) -> str:
    """``pruned50`` for a budget of 0.5; ``sparse`` where only masks are asked for."""
    if config.budget is not None:
        return f"pruned{100 * config.budget[1]:g}"
    return "sparse" if not config.ratios else "pruned"


def built_plan(source: Path, config: BuildConfig) -> Path:
    """Build the plan of an ``.onnx`` beside it, in place of an earlier one, and return where it lies."""
    return build(source, source.with_suffix(target_of(config.target).built), config, force=True).output
