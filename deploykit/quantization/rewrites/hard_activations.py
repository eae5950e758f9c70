"""HardSigmoid and HardSwish without a float node, for kernels that have neither.

Integers are counted from the scheme's least one here (0 of uint8, −128 of int8).

HardSigmoid(x) = clip(αx + β, 0, 1) = α · clip(x + β/α, 0, 1/α). The shift β/α goes into the bias of the convolution
before; a Q with zero point 0 saturates at 0 and, with a scale of at most 1/(255 α), at the top; reading the same
integers with α times the scale multiplies by α. No node is left.

HardSwish(x) = x · clip(x + 3, 0, 6) / 6. Below −3 it is 0 whatever x is, so x may be clamped there: with the scale
s = 3/z for an integer zero point z, the integer q of x is (x + 3)/s exactly, min(q, 2z) is clip(x + 3, 0, 6)/s, and
reading that with scale s/6 and zero point 0 gives the second factor: one integer Min and one integer Mul.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from deploykit.quantization.qdq.graph import attribute, constant, new_constant, new_node
from deploykit.quantization.qdq.nodes import reading
from deploykit.quantization.schemes import Affine


def _slope_and_shift(node: ir.Node) -> tuple[float, float]:
    alpha, beta = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
    assert isinstance(alpha, float)
    assert isinstance(beta, float)
    # The exporters write 1/6 as a float32; the nearest such fraction is what was meant.
    alpha = 1 / 6 if abs(alpha - 1 / 6) < 1e-6 else alpha
    return alpha, beta / alpha


def hard_sigmoid_scales(node: ir.Node, out: Affine) -> tuple[Affine, Affine]:
    """How a HardSigmoid's output is written (as x + β/α, clipped) and read (times α).

    ``out``: chosen for its output, whose range starts at 0 or above and ends at 1 at most.
    """
    alpha, _ = _slope_and_shift(node)
    scheme = out.scheme
    levels = scheme.qmax - scheme.qmin
    high = min(1.0, out.scale * (scheme.qmax - out.zero_point))
    write = Affine(float(np.float32(high / alpha / levels)), scheme.qmin, scheme)
    return write, Affine(float(np.float32(high / levels)), scheme.qmin, scheme)


def shift_bias(graph: ir.Graph, node: ir.Node) -> None:
    """Add β/α to the bias of the convolution whose output the HardSigmoid ``node`` alone reads."""
    _, shift = _slope_and_shift(node)
    source = node.inputs[0]
    assert source is not None
    conv = source.producer()
    assert conv is not None
    bias = constant(conv.inputs[2])
    assert bias is not None
    shifted = new_constant(graph, f"{conv.name}.bias.shifted", (bias + np.float32(shift)).astype(np.float32))
    conv.replace_input_with(2, shifted)


def hard_swish_scale(seen: Affine) -> Affine:
    """Scale and zero point of HardSwish's input: [−3, high], with −3 at the least integer exactly."""
    scheme = seen.scheme
    levels = scheme.qmax - scheme.qmin
    high = max(seen.scale * (scheme.qmax - seen.zero_point), 0.1)
    steps = int(np.clip(np.floor(3 * levels / (3 + high)), 1, levels // 2))
    return Affine(float(np.float32(3 / steps)), scheme.qmin + steps, scheme)


def expand_hard_swish(graph: ir.Graph, node: ir.Node, q: ir.Node, written: Affine) -> None:
    """Replace a HardSwish, whose input was quantized by ``q``, by the integer Min and the product."""
    name = node.name or node.outputs[0].name or "hard_swish"
    least_integer, kind = written.scheme.qmin, written.scheme.dtype
    integer_of_three = least_integer + 2 * (written.zero_point - least_integer)
    top = new_constant(graph, f"{name}.top", np.asarray(integer_of_three, kind))
    least = new_node("Min", [q.outputs[0], top], name=f"{name}.min", out=f"{name}.clipped", like=q.outputs[0])
    sixth = (
        new_constant(graph, f"{name}.gate.scale", np.asarray(written.scale / 6, np.float32)),
        new_constant(graph, f"{name}.gate.zero", np.asarray(least_integer, kind)),
    )
    out = node.outputs[0]
    gate = reading(least.outputs[0], sixth, f"{name}.gate", out)
    product = new_node(
        "Mul", [node.inputs[0], gate.outputs[0]], name=f"{name}.mul", out=f"{out.name}.product", like=out
    )
    for new in (least, gate, product):
        graph.insert_before(node, new)
    out.replace_all_uses_with(product.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)
