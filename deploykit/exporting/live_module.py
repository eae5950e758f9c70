"""A live ``nn.Module`` as a model file, for the public functions, which all work on files.

A network that its tensors give away (stock torchvision, deploykit's own, timm's), or whose architecture is named, is
written as a state dict, so that it can be pruned and trained on. Any other is exported by ``torch.export`` with a free
batch size: it can be run, exported to ONNX, quantized and measured, but not built anew.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from deploykit.base.errors import BadInput, DeploykitError
from deploykit.config.common import Config
from deploykit.config.options import both
from deploykit.exporting.exporters import quiet
from deploykit.models.build import build
from deploykit.models.load import strict_load
from deploykit.models.module_outputs import input_channels
from deploykit.models.recognize import recognise


def write_module(module: nn.Module, folder: Path | str, config: Config | None) -> Path:
    """Write ``module`` into ``folder``, named after its class; the module itself is left as it is.

    Args:
        module: any device, precision and mode; it is written in float32 and eval mode.
        folder: where no other file of this name is replaced.
        config: of the call: its ``size`` and ``arch``, where it has them.

    Raises:
        BadInput: the input size is not known, or ``torch.export`` cannot follow its forward.
    """
    name = type(module).__name__
    taken = sum(path.stem.rpartition("-")[0] == name or path.stem == name for path in Path(folder).iterdir())
    stem = Path(folder) / (f"{name}-{taken + 1}" if taken else name)
    frozen = copy.deepcopy(module).to("cpu", torch.float32).eval()
    arch, size = getattr(config, "arch", None), both(getattr(config, "size", None))
    x = torch.rand(2, input_channels(frozen), *(size or (64, 64)), generator=torch.Generator().manual_seed(0))
    if arch is not None or _recognised(frozen, x):
        path = stem.with_suffix(".pt")
        torch.save(frozen.state_dict(), path)
        return path
    if size is None:
        raise BadInput(f"the input size of the module {name} is not known", fix="Pass size=….")
    path = stem.with_suffix(".pt2")
    try:
        with quiet():
            program = torch.export.export(frozen, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, path)
    except Exception as error:  # torch.export raises what the code it follows raises, and its own errors of many kinds
        told = " ".join(str(error).split())[:200]
        fix = "Name how it is built: arch='package.module:factory'."
        raise BadInput(f"torch.export cannot follow the module {name}: {told}", fix=fix) from error
    return path


def _recognised(module: nn.Module, x: torch.Tensor) -> bool:
    """Whether its tensors tell a network that answers as it does: names and shapes do not tell strides."""
    tensors = module.state_dict()
    try:
        arch = recognise(tensors, Path(type(module).__name__)).arch
        with torch.random.fork_rng(devices=[]):
            stock = build(arch).eval()
        strict_load(stock, tensors, Path(type(module).__name__), str(arch))
        with torch.no_grad():
            ours, theirs = module(x), stock(x)
    except (DeploykitError, RuntimeError, ValueError, TypeError):
        return False
    return isinstance(ours, torch.Tensor) and ours.shape == theirs.shape and torch.allclose(ours, theirs, atol=1e-4)
