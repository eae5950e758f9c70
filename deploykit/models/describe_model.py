"""What is in a PyTorch file, as facts and layers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from deploykit.base.checkpoint import FORMAT, is_model_file, read_tensors
from deploykit.base.errors import BadInput, Unavailable
from deploykit.base.overrides import Stated
from deploykit.models.build import arch_text
from deploykit.models.load import LoadedModel, load_model, unwrap
from deploykit.models.macs import count
from deploykit.models.module_outputs import input_channels


class FileLayer(TypedDict):
    """One layer, node or tensor of a model file; ``macs`` for one picture, where they are known, ``shape`` of its output."""

    name: str
    type: str
    precision: str
    params: int
    macs: int | None
    shape: list[int]


Found = tuple[str, dict[str, object], list[FileLayer]]
"""Kind, facts and layers."""
DTYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.float64: "fp64"}


def describe_file(path: Path, arch: str | None, stated: Stated, allow_code: bool) -> Found:
    """Kind, facts and layers of a ``.pt``, ``.pth``, ``.ckpt``, ``.safetensors`` or ``.pt2`` file.

    A state dict of no known network is described by its tensors; the reason stands in ``architecture``.

    Raises:
        BadInput: no readable tensor file.
    """
    if path.suffix.lower() == ".pt2":
        loaded = load_model(path, stated=stated)
        layers = _layers(loaded, {})
        return "program", {"format": "ExportedProgram", **_network(loaded, layers)}, layers
    content = read_tensors(path)
    own = is_model_file(content)
    stored = content["tensors"] if own else _raw(content, path)
    facts: dict[str, object] = {"format": FORMAT if own else _container(path)}
    try:
        loaded = load_model(path, arch=arch, stated=stated, allow_code=allow_code, finite=False)
    except (BadInput, Unavailable) as error:
        facts["architecture"] = f"undecided: {error.line()}"
        return "tensors", {**facts, **_tensors(stored)}, _tensor_layers(stored)
    layers = _layers(loaded, stored)
    facts.update(_network(loaded, layers))
    facts["not_finite"] = _not_finite(stored)
    if own:
        facts["moving_average"] = content["ema"] is not None
        facts["masks"] = len(content["masks"] or {}) or None
        facts["samples"] = 0 if loaded.samples is None else len(loaded.samples["images"])
    return "model", facts, layers


def _container(path: Path) -> str:
    return "safetensors" if path.suffix == ".safetensors" else "state dict"


def _raw(content: Any, path: Path) -> dict[str, Tensor]:
    """The tensors as stored: their types, before anything is cast."""
    tensors, _ = unwrap(content, path, cast=False)
    return tensors


def _network(loaded: LoadedModel, layers: list[FileLayer]) -> dict[str, object]:
    preprocessing = loaded.preprocessing
    classes = loaded.arch.kwargs.get("num_classes")
    facts: dict[str, object] = {
        "architecture": arch_text(loaded.arch),
        "task": loaded.task,
        "num_classes": classes,
        "pruned_tensors": len(loaded.arch.shapes) or None,
        "params": sum(parameter.numel() for parameter in loaded.module.parameters()),
    }
    if loaded.program is None and any(layer["macs"] is not None for layer in layers):
        facts["macs"] = sum(layer["macs"] or 0 for layer in layers)
    shape = ["batch", *(preprocessing.shape if preprocessing else (input_channels(loaded.module), "height", "width"))]
    facts.update(
        inputs=[{"name": "input", "dtype": "float32", "shape": shape, "layout": "NCHW"}],
        outputs=[{"name": "output", "dtype": "float32", "shape": ["batch", classes or "classes"]}],
        precision=dict(Counter(layer["precision"] for layer in layers)),
        preprocessing=preprocessing.to_dict() if preprocessing else None,
        classes=list(loaded.classes) if loaded.classes else None,
        lineage=[{key: entry.get(key) for key in ("stage", "result")} for entry in loaded.lineage] or None,
        notes=loaded.notes or None,
    )
    return facts


def _layers(loaded: LoadedModel, stored: dict[str, Tensor]) -> list[FileLayer]:
    if loaded.preprocessing is None or loaded.program is not None:
        state = loaded.module.state_dict()
        return _tensor_layers({name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)})
    try:
        counts = count(loaded.module, loaded.preprocessing.size, loaded.preprocessing.channels)
    except BadInput:
        return _tensor_layers(loaded.module.state_dict())
    return [
        {
            "name": layer.name,
            "type": layer.type,
            "precision": _dtype(stored.get(f"{layer.name}.weight")),
            "params": layer.params,
            "macs": layer.macs,
            "shape": list(layer.out_shape),
        }
        for layer in counts.layers
    ]


def _tensors(tensors: dict[str, Tensor]) -> dict[str, object]:
    return {
        "tensors": len(tensors),
        "params": sum(tensor.numel() for name, tensor in tensors.items() if not _is_statistic(name)),
        "precision": dict(Counter(_dtype(tensor) for tensor in tensors.values())),
        "not_finite": _not_finite(tensors),
    }


def _dtype(tensor: Tensor | None) -> str:
    """The type as stored; a layer whose tensor has another name (attention) runs in fp32 here."""
    return "fp32" if tensor is None else DTYPES.get(tensor.dtype, str(tensor.dtype).removeprefix("torch."))


def _is_statistic(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def _tensor_layers(tensors: dict[str, Tensor]) -> list[FileLayer]:
    return [
        {
            "name": name,
            "type": "Parameter" if isinstance(tensor, nn.Parameter) else "Tensor",
            "precision": _dtype(tensor),
            "params": tensor.numel(),
            "macs": None,
            "shape": list(tensor.shape),
        }
        for name, tensor in tensors.items()
    ]


def _not_finite(tensors: dict[str, Tensor]) -> list[str]:
    return [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all())
    ]
