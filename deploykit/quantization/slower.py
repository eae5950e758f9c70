"""Which layers make an int8 network slower than its float original."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploykit.base.progress import Progress
from deploykit.evaluation.graph_runner import Opened

if TYPE_CHECKING:
    import numpy as np
    import onnx

NAMED = 3


def slower_layers(
    opened: Opened, proto: onnx.ModelProto, made: onnx.ModelProto, x: np.ndarray, progress: Progress
) -> dict[str, Any]:
    """Profile both networks on ``x`` and say which layers lose; see :func:`deploykit.quantization.layer_profile.compared`."""
    from deploykit.quantization.layer_profile import compared
    from deploykit.quantization.qdq.prepare import prepare

    found = compared(prepare(proto), opened.profile(proto, x), opened.profile(made, x))
    progress.warn(f"int8 is slower than float on this machine: {in_words(found)}")
    return found


def in_words(found: dict[str, Any]) -> str:
    """The layers that lose most, or the Q and DQ around them where no layer loses by itself."""
    moves = found["moves_us"]
    worst = [f"{one['layer']} ({one['float_us']:g} → {one['int8_us']:g} µs)" for one in found["slower"][:NAMED]]
    around = f"layout, Q and DQ take {moves['int8']:g} µs, in float {moves['float']:g}"
    return ", ".join([*worst, around])
