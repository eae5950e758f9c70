"""Find the state dict inside what people save: containers, prefixes, Lightning checkpoints, half precision."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deploykit.base.errors import BadInput

AVERAGED = ("ema_state_dict", "state_dict_ema", "model_ema", "ema", "averaged")
PLAIN = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "ema_model.", "backbone.")

_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")


def unwrap(content: Any, path: Path, *, cast: bool = True) -> tuple[dict[str, Tensor], list[str]]:
    """The bare state dict inside ``content``, in fp32 unless ``cast`` is off, and notes of what was done to find it.

    A moving average is preferred to the raw weights where both are there. Prefixes are taken off as long as all
    tensors share one; a Lightning checkpoint's other tensors (metrics, loss weights) go with the prefix.

    Raises:
        BadInput: there is no state dict in it.
    """
    notes: list[str] = []
    tensors = _find(content, notes)
    if tensors is None:
        raise BadInput(
            f"{path} holds no state dict",
            got=_described(content),
            expected="tensors by name, or a dictionary with them under state_dict, model, model_state_dict or ema",
        )
    tensors = _without_prefixes(tensors, notes)
    tensors = {_OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in tensors.items()}
    return (_single_precision(tensors, notes) if cast else tensors), notes


def _find(content: Any, notes: list[str], depth: int = 0) -> dict[str, Tensor] | None:
    if not isinstance(content, Mapping) or not content or depth > 4:
        return None
    if all(isinstance(key, str) for key in content):
        tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
        if tensors and (len(tensors) == len(content) or not any(key in content for key in AVERAGED + PLAIN)):
            return tensors if any("." in key or len(tensors) == len(content) for key in tensors) else None
    for key in AVERAGED + PLAIN:
        if (found := _find(content.get(key), notes, depth + 1)) is not None:
            if depth == 0 and key in AVERAGED:
                notes.append(f"uses the moving average of the weights ({key})")
            return found
    return None


def _without_prefixes(tensors: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    taken: list[str] = []
    while True:
        for prefix in PREFIXES:
            inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            outside = [name for name in tensors if not name.startswith(prefix)]
            if inside and all(tensors[name].ndim <= 1 and "." not in _stem(name) for name in outside):
                if outside:
                    notes.append(f"left out {len(outside)} tensors beside the network: {', '.join(outside[:3])}")
                tensors = inside
                taken.append(prefix)
                break
        else:
            if taken:
                notes.append(f"took the prefix {''.join(taken)!r} off the tensors' names")
            return tensors


def _stem(name: str) -> str:
    """The module of a tensor: ``criterion.weight`` → ``criterion``; a layer nested deeper belongs to a network."""
    return name.rpartition(".")[0]


def _single_precision(tensors: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    kinds = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} - {torch.float32}
    if kinds:
        names = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        notes.append(f"weights cast from {names} to float32")
    return {
        name: tensor.detach().to(torch.float32) if tensor.is_floating_point() else tensor.detach()
        for name, tensor in tensors.items()
    }


def _described(content: Any) -> str:
    if isinstance(content, Mapping):
        keys = ", ".join(str(key) for key in list(content)[:6])
        return f"a dictionary with {keys or 'nothing'}{', …' if len(content) > 6 else ''}"
    return type(content).__name__
