"""What a model file that was trained for int8 says about its integers: plain data in the file's ``ranges``.

Ranges are named after the module that makes an activation (``layer1.0.conv1/Conv``), so they survive a re-export. They
belong to the weights they were trained with: the record holds their hash, and is refused where they changed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.base.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "deploykit.qat/1"
AGAIN = "Train it for int8 again with `quantize --method qat`, or quantize the float model."


@dataclass(frozen=True)
class Record:
    """Ranges of a model.

    Attributes:
        target: whose dialect was trained.
        bits: width of weights.
        ranges: activation name → (low, high), of every activation that any dialect may round.
        limits: layer name → what each channel's largest integer means, float32 [C]; empty: that of the largest weight.
        prefix: names of the nodes before the cut, which stay float on ``target``.
        keep_float: names of further float nodes.
        float_adds: residual sums stay float on ``target``.
        float_head: the classifier stays float on ``target``.
        won: ``qat``, or ``ptq`` where training did not help.
        weights_sha256: of the tensors.
    """

    target: str
    bits: int
    ranges: Mapping[str, tuple[float, float]]
    limits: Mapping[str, np.ndarray] = field(default_factory=dict)
    prefix: frozenset[str] = frozenset()
    keep_float: frozenset[str] = frozenset()
    float_adds: bool = False
    float_head: bool = False
    won: str = "qat"
    weights_sha256: str = ""

    def to_dict(self) -> dict[str, object]:
        """Plain containers for the model file."""
        return {
            "format": FORMAT,
            "target": self.target,
            "bits": self.bits,
            "ranges": {name: [float(low), float(high)] for name, (low, high) in self.ranges.items()},
            "limits": {name: [float(one) for one in limit] for name, limit in self.limits.items()},
            "prefix": sorted(self.prefix),
            "keep_float": sorted(self.keep_float),
            "float_adds": self.float_adds,
            "float_head": self.float_head,
            "won": self.won,
            "weights_sha256": self.weights_sha256,
        }


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """The hash of a state dict: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name].detach().cpu().numpy())
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def read_record(ranges: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str) -> Record:
    """The checked record of a model file.

    ``ranges``: as the file holds it. ``tensors``: the network's state dict.

    Raises:
        BadInput: another format, damaged, or of other weights.
    """
    if ranges.get("format") != FORMAT:
        raise BadInput(f"{where} has ranges of another format", got=ranges.get("format"), expected=FORMAT, fix=AGAIN)
    try:
        found = Record(
            target=str(ranges["target"]),
            bits=int(ranges["bits"]),
            ranges={str(name): (float(low), float(high)) for name, (low, high) in ranges["ranges"].items()},
            limits={str(name): np.asarray(limit, np.float32) for name, limit in ranges["limits"].items()},
            prefix=frozenset(str(one) for one in ranges["prefix"]),
            keep_float=frozenset(str(one) for one in ranges["keep_float"]),
            float_adds=bool(ranges["float_adds"]),
            float_head=bool(ranges["float_head"]),
            won=str(ranges["won"]),
            weights_sha256=str(ranges["weights_sha256"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{where} has damaged ranges: {type(error).__name__} {error}", fix=AGAIN) from error
    if any(not (math.isfinite(low) and math.isfinite(high) and low <= high) for low, high in found.ranges.values()):
        raise BadInput(f"{where} has damaged ranges: a range that is none", fix=AGAIN)
    if not all(np.isfinite(limit).all() and (limit > 0).all() for limit in found.limits.values()):
        raise BadInput(f"{where} has damaged ranges: a weight limit that is none", fix=AGAIN)
    if (now := weights_sha256(tensors)) != found.weights_sha256:
        raise BadInput(
            f"{where} holds ranges of other weights: its tensors were changed after training for int8",
            got=now[:12],
            expected=found.weights_sha256[:12],
            fix=AGAIN,
        )
    return found
