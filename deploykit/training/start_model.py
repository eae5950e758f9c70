"""The network that training starts from: built by name, or loaded from a file and given the head that the data needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from deploykit.base.artifact import LineageEntry
from deploykit.base.checkpoint import Arch
from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import SILENT, Progress
from deploykit.config.train import ModelConfig, TrainConfig
from deploykit.data.classes import imagenet_classes
from deploykit.models import arch_text, build, head_of, load_model, parse_arch, replace_head
from deploykit.training.augment import seeded
from deploykit.training.modes import freeze_all_but
from deploykit.training.randomness import seed_of

DEFAULT_ARCH = "deploykit:resnet"


@dataclass
class Start:
    """A network about to be trained.

    ``module``: with as many outputs as the data has classes, in their order. ``arch``: how it was built.
    ``preprocessing``: of the start file, or None. ``lineage``: of the start file, oldest first. ``masks``: of the start
    file: tensor name → bool mask of weights that stay zero; None where it has none.
    """

    module: nn.Module
    arch: Arch
    preprocessing: Preprocessing | None = None
    lineage: list[LineageEntry] = field(default_factory=list)
    masks: dict[str, Tensor] | None = None


def start_network(
    config: TrainConfig,
    classes: tuple[str, ...],
    progress: Progress = SILENT,
    *,
    channels: int = 3,
    new_head: bool = True,
) -> Start:
    """Build or load the network of a training run, and freeze it but for its head where asked.

    ``channels``: of the images, which a network that is built takes. ``new_head``: give a start file with other classes a new head; else refuse it.

    Raises:
        BadInput: an unknown architecture or file, weights that do not fit, NaN weights, other classes.
        Unavailable: timm is missing, or a download failed.
    """
    with seeded(seed_of(config.seed, "weights")):
        if config.model.weights:
            start = _loaded(config, classes, progress, new_head)
        else:
            start = _built(config, len(classes), channels, progress)
    if config.model.freeze:
        head = head_of(start.module)
        trained = freeze_all_but(start.module, head)
        progress.say(f"only the head {head} is trained ({trained:,} parameters), the rest is frozen")
    return start


def _arch(model: ModelConfig) -> Arch:
    arch = parse_arch(model.arch or DEFAULT_ARCH)
    return Arch(arch.source, arch.name, {**arch.kwargs, **model.kwargs})


def _built(config: TrainConfig, classes: int, channels: int, progress: Progress) -> Start:
    arch = _arch(config.model)
    if channels != 3 and arch.source != "module" and "in_channels" not in arch.kwargs:
        arch.kwargs["in_channels"] = channels
        progress.say(f"the network takes {channels} {'channel' if channels == 1 else 'channels'}, as the images have")
    module = build(arch, classes, download=config.model.download, allow_code=config.allow_code)
    if config.model.freeze and not config.model.download:
        progress.warn("the frozen part has random weights: name a start file with --weights, or pass --download")
    return Start(module, arch)


def _loaded(config: TrainConfig, classes: tuple[str, ...], progress: Progress, new_head: bool) -> Start:
    model = config.model
    assert model.weights is not None
    if model.download:
        raise BadInput("both a start file and a download are asked for", fix="Leave out --weights or --download.")
    if model.kwargs and not model.arch:
        raise BadInput(
            "arguments of an architecture that is not named", got=model.kwargs, fix="Name it, or leave them."
        )
    named = arch_text(_arch(model)) if model.arch else None
    loaded = load_model(Path(model.weights), arch=named, stated=config.stated, allow_code=config.allow_code)
    loaded.tell(progress)
    if loaded.program is not None:
        raise BadInput(f"{model.weights} is an exported program", expected="a file of tensors to train on")
    arch = _fit_head(loaded.module, loaded.arch, loaded.classes, classes, progress, new_head)
    return Start(loaded.module, arch, loaded.preprocessing, loaded.lineage, _fitting(loaded.masks, loaded.module))


def _fitting(masks: dict[str, Tensor] | None, module: nn.Module) -> dict[str, Tensor] | None:
    """The masks of layers that are as they were: a new head has none."""
    if masks is None:
        return None
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    return {name: mask for name, mask in masks.items() if shapes.get(name) == mask.shape}


def _fit_head(
    module: nn.Module,
    arch: Arch,
    had: tuple[str, ...] | None,
    classes: tuple[str, ...],
    progress: Progress,
    new_head: bool,
) -> Arch:
    """Give the module one output per class of the data, in its order, keeping trained rows where the classes are the same."""
    name = head_of(module)
    head = module.get_submodule(name)
    outputs = len(head.weight)  # type: ignore[arg-type]
    if had == tuple(imagenet_classes().values()) and all(label in imagenet_classes() for label in classes):
        had = tuple(imagenet_classes())
    if had is not None and len(had) == outputs and set(had) == set(classes) and len(had) == len(classes):
        if had != classes:
            index = torch.tensor([had.index(label) for label in classes])
            with torch.no_grad():
                for parameter in head.parameters():
                    parameter.copy_(parameter[index].clone())
            progress.say(f"the head {name} is kept, its classes mapped by name")
        return arch
    if not new_head and had is not None and all(label.isdecimal() for label in had):
        had = None  # numbers say no more than the index
    if had is None and outputs == len(classes):
        progress.say(f"the head {name} is kept: {outputs} outputs, its classes taken to be the data's, by index")
        return arch
    if not new_head:
        lost = [label for label in had or () if label not in classes]
        raise BadInput(
            "the classes of the model and of the data do not fit"
            + (f": {lost[0]!r} is none of the data's" if lost else ""),
            got=f"{outputs} outputs and {len(classes)} classes",
            expected="the same classes, in any order",
            fix="Train it on the data first: deploykit train --weights.",
        )
    replace_head(module, len(classes))
    progress.say(f"the head {name} is new: {outputs} outputs before, {len(classes)} classes in the data")
    return Arch(arch.source, arch.name, {**arch.kwargs, "num_classes": len(classes)})
