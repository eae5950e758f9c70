"""``deploykit prune``: a model file → a narrower one that loads, trains, exports and prunes again like any other."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit.base.artifact import (
    Made,
    Manifest,
    Parent,
    already_made,
    artifact_sha256,
    files_of,
    portable_data_name,
    read_manifest,
    refuse_input,
    write_manifest,
)
from deploykit.base.environment import library_versions
from deploykit.base.errors import BadInput
from deploykit.base.lock import alone_with
from deploykit.base.progress import SILENT, Progress
from deploykit.config.keywords import by_keywords
from deploykit.config.prune import PruneConfig
from deploykit.pruning.importance_images import PruningPictures, pruning_pictures

if TYPE_CHECKING:
    from deploykit.base.preprocessing import Preprocessing
    from deploykit.config.build import BuildConfig
    from deploykit.models import LoadedModel
    from deploykit.pruning.pruner import Cutter

STAGE_VERSION = 4
LIBRARIES = ("deploykit", "torch", "torchvision", "timm", "numpy")


@dataclass(frozen=True)
class PruneResult(Made):
    """What a pruning made.

    Attributes:
        output: the model file.
        made: False where the identical file was there already.
        facts: macs and params (each before, after, kept: fraction), budget, importance, scope, layers (name, type, width,
            macs and params before and after), kept (layer → why its width stays), top1_select (before, one_shot,
            recalibrated; None without data), sparsity (of masks, or None), two_of_four (layers eligible for 2:4, of all), latency (of a latency budget, or None).
    """

    def summary(self) -> str:
        """For people."""
        if not self.made:
            return f"{self.output} is up to date: same model, data, options and versions; nothing done"
        facts = self.facts
        macs, params, top1 = facts["macs"], facts["params"], facts["top1_select"]
        text = (
            f"{self.output}: {100 * macs['kept']:.1f} % of the MACs ({macs['after'] / 1e6:.1f} M), "
            f"{100 * params['kept']:.1f} % of the parameters ({params['after'] / 1e6:.2f} M)"
        )
        if facts.get("latency"):
            latency = facts["latency"]
            text += (
                f", measured {100 * latency['measured']:.1f} % of the latency on {latency['target']} "
                f"({latency['ms']:.3g} of {latency['input_ms']:.3g} ms; the layer table predicted "
                f"{100 * latency['predicted']:.1f} %)"
            )
        if facts["sparsity"]:
            text += f", masks in {facts['sparsity']['layers']} layers"
        if top1 is not None:
            after = top1["one_shot"] if top1["recalibrated"] is None else top1["recalibrated"]
            text += f"; top-1 on select {100 * top1['before']:.2f} → {100 * after:.2f} % before any training"
        return text


@by_keywords(PruneConfig)
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
    from deploykit.base.checkpoint import check_file

    if config is None:
        raise BadInput("no budget", expected="macs, params or latency (the fraction kept)")
    source = check_file(Path(model))
    target = Path(output) if output is not None else source.with_name(f"{source.stem}.{suffix(config)}.pt")
    if target.suffix != ".pt":
        raise BadInput("the output's name", got=target.name, expected="a name that ends with .pt")
    refuse_input(target, source)
    with alone_with(target, progress):
        return _made(source, target, config, force, progress)


def _made(source: Path, target: Path, config: PruneConfig, force: bool, progress: Progress) -> PruneResult:
    pictures = pruning_pictures(config, progress)
    versions, hardware = timing_of(config)
    manifest = Manifest(
        kind="model",
        files={},
        stage="prune",
        version=STAGE_VERSION,
        config=_recorded(config),
        parents=(
            Parent("model", artifact_sha256(source), os.path.relpath(source, target.parent), source.stem),
            *(pictures.parents if pictures else ()),
        ),
        precision="fp32",
        versions=library_versions(LIBRARIES) | versions,
        hardware=hardware,
    )
    if already_made(target, manifest.key, force=force):
        made = read_manifest(target)
        assert made is not None
        return PruneResult(target, False, made.facts)
    return _prune(source, target, config, manifest, pictures, force, progress)


def suffix(config: PruneConfig) -> str:
    """``pruned50`` for a budget of 0.5; ``sparse`` where only masks are asked for."""
    if config.budget is not None:
        return f"pruned{100 * config.budget[1]:g}"
    return "sparse" if not config.ratios else "pruned"


def _recorded(config: PruneConfig) -> dict[str, Any]:
    fields = config.plain()
    if config.data is not None:
        fields["data"] = portable_data_name(config.data)
    return fields


def timing_of(config: PruneConfig) -> tuple[dict[str, str], dict[str, Any]]:
    """Versions and hardware that decide widths by their time; both empty where no latency is asked for."""
    from deploykit.base.environment import cpu
    from deploykit.pruning.latency.layer_times import ON_CPU, timing_hardware, timing_versions

    if config.latency is None:
        return {}, {}
    gpus = {} if config.target in ON_CPU else {"gpus": timing_hardware(config.target)}
    return timing_versions(config.target), {"cpu": cpu(), **gpus}


def _prune(
    source: Path,
    target: Path,
    config: PruneConfig,
    manifest: Manifest,
    pictures: PruningPictures | None,
    force: bool,
    progress: Progress,
) -> PruneResult:
    import torch

    from deploykit.base.environment import cores
    from deploykit.pruning.pruner import Cutter

    loaded, preprocessing = _loaded(source, config, progress)
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads or cores())
    try:
        cutter = Cutter(loaded, preprocessing, config, pictures, built_plan, progress)
        facts = cutter.cut()
        lineage = [*loaded.lineage, _entry(manifest, facts)]
        _save(cutter, loaded, preprocessing, target, lineage)
    finally:
        torch.set_num_threads(threads)
    _attach(target, cutter, config, force)
    classes = tuple(_classes(loaded))
    write_manifest(
        target,
        replace(manifest, files=files_of(target), preprocessing=preprocessing.to_dict(), classes=classes, facts=facts),
    )
    return PruneResult(target, True, facts)


def built_plan(source: Path, config: BuildConfig) -> Path:
    """Build the plan of an ``.onnx`` beside it, in place of an earlier one, and return where it lies."""
    from deploykit.commands.build import build

    return build(source, source.with_suffix(".engine"), config, force=True).output


def _loaded(source: Path, config: PruneConfig, progress: Progress) -> tuple[LoadedModel, Preprocessing]:
    from deploykit.models import load_model

    if source.suffix.lower() == ".onnx":
        raise BadInput(f"{source} is an ONNX graph", expected="the model file that it was exported from (.pt)")
    loaded = load_model(source, arch=config.arch, size=config.size, allow_code=config.allow_code)
    for note in loaded.notes:
        progress.say(f"{source.name}: {note}")
    if loaded.program is not None:
        raise BadInput(f"{source} is an exported program", expected="a file of tensors", fix="Prune before exporting.")
    if loaded.preprocessing is None:
        raise BadInput(f"{source} does not carry its input size", fix="Name it with --size.")
    if loaded.masks and config.pattern is None and config.unstructured is None:
        progress.warn("the masks of the input model are dropped: its weights move; ask for --pattern to make new ones")
    return loaded, loaded.preprocessing


def _classes(loaded: LoadedModel) -> list[str]:
    from deploykit.models.heads import output_size

    return list(loaded.classes) if loaded.classes else [str(i) for i in range(output_size(loaded.module))]


def _entry(manifest: Manifest, facts: dict[str, Any]) -> dict[str, Any]:
    parents = [{"role": p.role, "sha256": p.sha256, "name": p.name} for p in manifest.parents]
    result = {key: value for key, value in facts.items() if key not in ("layers", "kept")}
    return {"stage": "prune", "config": manifest.config, "parents": parents, "result": result}


def _save(
    cutter: Cutter, loaded: LoadedModel, preprocessing: Preprocessing, target: Path, lineage: list[dict[str, Any]]
) -> None:
    """Write the file where nobody looks, load it as anybody would, and only then give it its name."""
    import torch

    from deploykit.exporting.write_onnx import place, scratch
    from deploykit.models import load_model, save_model

    module = cutter.module
    with scratch(target) as folder:
        trial = folder / target.name
        save_model(
            trial,
            module,
            loaded.arch,
            preprocessing,
            _classes(loaded),
            lineage=lineage,
            samples=loaded.samples,
            masks=cutter.masks,
        )
        again = load_model(trial, allow_code=cutter.config.allow_code).module
        x = torch.randn(1, 3, *preprocessing.size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            if not torch.equal(again(x), module(x)):
                raise RuntimeError("the pruned network answers differently when it is loaded again")
        place(folder, target, [target.name])


def _attach(target: Path, cutter: Cutter, config: PruneConfig, force: bool) -> None:
    from deploykit.pruning.layer_table import attachments
    from deploykit.reporting.attachments.files import attach

    attach(target, attachments(cutter.layers, cutter.accuracy, config), force=force)
