"""From a model file and its exported graph to the network that training for int8 changes, and back to ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploykit.base.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from deploykit.models import LoadedModel
    from deploykit.quantization.qat.module import FakeQuantized
    from deploykit.quantization.qat.points import Ranges
    from deploykit.quantization.qdq.dialects import Dialect
    from deploykit.quantization.search import Choice


@dataclass(frozen=True)
class Wanted:
    """How a network is fake-quantized.

    Attributes:
        choice: what stays float.
        dialect: whose placement, scheme and widths.
        ranges: activation name → range.
        limits: layer name → what its channels' largest integers mean; empty: found from the weights.
        learned: steps of activations and weights are parameters.
        freeze_after: training steps after which BatchNorm uses its running statistics.
    """

    choice: Choice
    dialect: Dialect
    ranges: Ranges
    limits: Mapping[str, np.ndarray]
    learned: bool = True
    freeze_after: int = 0


def fake_quantized(loaded: LoadedModel, proto: onnx.ModelProto, wanted: Wanted) -> FakeQuantized:
    """The network of a model file as its int8 engine will compute it.

    Args:
        loaded: the model file; its module's tensors are those of the result.
        proto: what it was exported to.
        wanted: how it is quantized.

    Raises:
        BadInput: an operator that cannot be trained through, or a missing range.
    """
    import torch

    from deploykit.exporting.names import module_of
    from deploykit.quantization.qat.binding import bind
    from deploykit.quantization.qat.module import FakeQuantized
    from deploykit.quantization.qat.points import plan_to_train, points_of

    assert loaded.preprocessing is not None
    dialect = wanted.dialect
    model, plan = plan_to_train(proto, wanted.choice, dialect)
    example = torch.rand(2, 3, *loaded.preprocessing.size, generator=torch.Generator().manual_seed(0))
    return FakeQuantized(
        model.graph,
        loaded.module,
        bind(model.graph, loaded.module, example, module_of),
        points_of(plan, wanted.ranges, dialect.activations),
        bits=dialect.weight_bits,
        integer_bias=dialect.integer_bias,
        learned=wanted.learned,
        limits=wanted.limits,
        freeze_after=wanted.freeze_after,
    ).eval()


def needed_ranges(proto: onnx.ModelProto, choice: Choice, dialect: Dialect) -> set[str]:
    """Names of the activations that need a range."""
    from deploykit.quantization.qat.points import plan_to_train

    _, plan = plan_to_train(proto, choice, dialect)
    return {plan.shared.get(value, value).name or "" for value in plan.points}


def refuse_missing(missing: set[str], where: str) -> None:
    """Raise :class:`BadInput` where ranges are missing."""
    if missing:
        raise BadInput(
            f"{where} holds no range for {len(missing)} activations",
            got=f"none for {sorted(missing)[0]}",
            fix="Train it for int8 again with this version: `quantize --method qat`.",
        )
