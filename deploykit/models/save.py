"""Write a network as deploykit's safe ``.pt``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deploykit.base.artifact import LineageEntry
from deploykit.base.checkpoint import Arch, ModelFile, write_model_file
from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.task import Task
from deploykit.models.build import build_meta
from deploykit.models.heads import output_size
from deploykit.models.reshape import shape_changes

MAX_SAMPLES = 32


def save_model(
    path: Path,
    module: nn.Module,
    arch: Arch,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    *,
    ema: Mapping[str, Tensor] | None = None,
    lineage: Sequence[LineageEntry] = (),
    samples: Mapping[str, Any] | None = None,
    masks: Mapping[str, Tensor] | None = None,
    ranges: Mapping[str, Any] | None = None,
    task: Task = "classify",
    claim: bool = False,
) -> None:
    """Write ``module`` whole or not at all.

    Args:
        path: of the file.
        module: built by :func:`deploykit.models.build` from ``arch``, then trained, pruned …; any device.
        arch: how to build it; the number of classes and pruned shapes are filled in from ``module``.
        preprocessing: what turns a picture into its input.
        classes: names in the order of the outputs.
        ema: state dict of the moving average.
        lineage: what was done to it, oldest first.
        samples: ``{"images": uint8 [N, H, W, C], "labels": int64 [N]}`` arrays or tensors; the first 32 are kept.
        masks: tensor name → bool mask.
        ranges: activation ranges by module name.
        task: what its outputs mean.
        claim: a manifest follows; until then a claim tells whose the file is (:mod:`deploykit.base.artifact`).

    Raises:
        BadInput: the class names do not fit the head, a tensor holds NaN or infinity, or a masked weight is not zero.
        SystemTrouble: the disk is full.
    """
    tensors = module.state_dict()
    check_finite(tensors, str(path))
    if ema is not None:
        check_finite(ema, f"{path} (moving average)")
    for kept in (tensors, ema or {}):
        check_masked(kept, masks or {}, str(path))
    outputs = output_size(module)
    if len(classes) != outputs:
        raise BadInput(f"{path}: class names do not fit the head", got=f"{len(classes)} names", expected=outputs)
    write_model_file(
        path,
        ModelFile(
            arch=arch_of(module, arch),
            tensors=dict(tensors),
            preprocessing=preprocessing,
            classes=tuple(classes),
            ema=dict(ema) if ema is not None else None,
            masks=dict(masks) if masks is not None else None,
            ranges=ranges,
            lineage=list(lineage),
            samples=None
            if samples is None
            else {key: torch.as_tensor(value)[:MAX_SAMPLES] for key, value in samples.items()},
            task=task,
        ),
        claim=claim,
    )


def arch_of(module: nn.Module, arch: Arch) -> Arch:
    """``arch`` completed from the network itself: number of classes, input transform, shapes that pruning changed."""
    kwargs = {**arch.kwargs, "num_classes": output_size(module)}
    if arch.source == "torchvision" and hasattr(module, "transform_input"):
        kwargs["transform_input"] = bool(module.transform_input)
    stock = Arch(arch.source, arch.name, kwargs)
    with torch.random.fork_rng(devices=[]):
        built = build_meta(stock, allow_code=True)  # a module in hand came from its code already
    return Arch(arch.source, arch.name, kwargs, shape_changes(module, built))


def check_masked(tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights that their masks say are zero and are not, naming the tensor.

    Raises:
        BadInput: such a weight, or a mask of another shape.
    """
    for name, mask in masks.items():
        if name not in tensors:
            continue
        if tensors[name].shape != mask.shape:
            raise BadInput(f"{where}: the mask of {name}", got=list(mask.shape), expected=list(tensors[name].shape))
        if bool(tensors[name].detach()[~mask.to(tensors[name].device)].any()):
            raise BadInput(f"{where}: weights that its mask leaves out are not zero", got=name)


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse NaN and infinity, naming the tensor.

    Raises:
        BadInput: a floating-point tensor holds one.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or bool(torch.isfinite(tensor.sum(dtype=torch.float64))):
            continue  # one pass: a sum of finite numbers in float64 is finite
        if not bool(torch.isfinite(tensor).all()):
            kind = "NaN" if bool(torch.isnan(tensor).any()) else "infinity"
            raise BadInput(f"{where}: the tensor {name} holds {kind}", fix="Use a checkpoint from before it diverged.")
