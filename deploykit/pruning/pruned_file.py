"""A model file → its narrowed network as a model file, loaded again before it is called done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploykit.base.artifact import LineageEntry, Manifest, lineage_entry, write_model_manifest
from deploykit.base.atomic import scratch
from deploykit.base.choices import choices_path, write_choices
from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.config.prune import PruneConfig
from deploykit.exporting.write_onnx import place
from deploykit.pruning.importance_images import PruningPictures
from deploykit.pruning.latency.width_choices import choices_for, told_choices, width_choices
from deploykit.pruning.layer_table import attachments
from deploykit.reporting.attachments.files import attach

if TYPE_CHECKING:
    from deploykit.models import LoadedModel
    from deploykit.pruning.latency.layer_times import BuildPlan
    from deploykit.pruning.pruner import Cutter

_BEFORE = "Prune before exporting; of a live module say how it is built: arch='package.module:factory'."


def prune_file(
    source: Path,
    target: Path,
    config: PruneConfig,
    manifest: Manifest,
    pictures: PruningPictures | None,
    build: BuildPlan,
    *,
    force: bool,
    progress: Progress,
) -> Manifest:
    """Prune ``source`` into ``target``.

    ``source``: a model file of tensors. ``pictures``: None without data. ``build``: of TensorRT's plans that a latency
    budget times; what it chose goes to a choices file beside ``target``. Returns the manifest as written, with the facts of :class:`deploykit.commands.prune.PruneResult`.

    Raises:
        BadInput: a budget that cannot be reached, unknown layers, a network or data that do not fit.
        AnswerNo: a latency budget that the measured whole misses.
    """
    from deploykit.pruning.pruner import Cutter
    from deploykit.training.threads import on_threads, threads_of

    loaded, preprocessing = _loaded(source, config, progress)
    parent = manifest.parents[0].sha256
    choices = choices_for(config, parent)
    with on_threads(threads_of(config.threads).count):
        cutter = Cutter(loaded, preprocessing, config, pictures, build, choices, progress)
        facts = cutter.cut()
        if cutter.latency is not None:
            found = {"latency": cutter.latency, "layers_ms": cutter.layers_ms}
            choices = width_choices(config, parent, cutter.widths, found)
            write_choices(choices_path(target), choices)
        facts["latency"] = None if choices is None else told_choices(choices)
        told = {key: value for key, value in facts.items() if key not in ("layers", "kept")}
        _save(cutter, loaded, preprocessing, target, [*loaded.lineage, lineage_entry(_unmeasured(manifest), told)])
    attach(target, attachments(cutter.layers, cutter.accuracy, config), force=force)
    manifest = replace(manifest, task=loaded.task)
    return write_model_manifest([target], manifest, preprocessing, _classes(loaded), facts, cutter.measured())


def _unmeasured(manifest: Manifest) -> Manifest:
    """As a model file tells of it, whether its widths were measured or replayed."""
    return replace(manifest, parents=tuple(one for one in manifest.parents if one.role != "choices"))


def _loaded(source: Path, config: PruneConfig, progress: Progress) -> tuple[LoadedModel, Preprocessing]:
    from deploykit.models import load_model

    if source.suffix.lower() == ".onnx":
        raise BadInput(f"{source} is an ONNX graph", expected="the model file that it was exported from (.pt)")
    loaded = load_model(source, arch=config.arch, stated=config.stated, allow_code=config.allow_code)
    loaded.tell(progress)
    if loaded.program is not None:
        raise BadInput(f"{source} is an exported program", expected="a file of tensors", fix=_BEFORE)
    if loaded.preprocessing is None:
        raise BadInput(f"{source} does not carry its input size", fix="Name it with --size.")
    if loaded.masks and config.pattern is None and config.unstructured is None:
        progress.warn("the masks of the input model are dropped: its weights move; ask for --pattern to make new ones")
    return loaded, loaded.preprocessing


def _classes(loaded: LoadedModel) -> list[str]:
    from deploykit.models.heads import output_size

    return list(loaded.classes) if loaded.classes else [str(i) for i in range(output_size(loaded.module))]


def _save(
    cutter: Cutter, loaded: LoadedModel, preprocessing: Preprocessing, target: Path, lineage: Sequence[LineageEntry]
) -> None:
    """Write the file where nobody looks, load it as anybody would, and only then give it its name."""
    import torch
    from torch.utils._pytree import tree_leaves

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
            task=loaded.task,
        )
        again = load_model(trial, allow_code=cutter.config.allow_code).module
        x = torch.randn(1, *preprocessing.shape, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            answers = []
            for one in (again, module):
                torch.manual_seed(0)  # of a network that draws in eval mode
                answers.append(tree_leaves(one(x)))
            both = zip(*answers, strict=True)
            if not all(torch.equal(one, other) for one, other in both if isinstance(one, torch.Tensor)):
                raise RuntimeError("the pruned network answers differently when it is loaded again")
        place(folder, target, [target.name])
