"""The kernels of a graph that ONNX Runtime optimized for its CPU provider, and how much work each has.

What fuses is not guessed: ONNX Runtime's own optimizer is asked (``SessionOptions.optimized_model_filepath``), whose answer is
the same for the same version, instruction set and graph. It leaves no shapes for values whose layout it changed (NCHWc in
blocks of channels, NHWC for integers), so they are followed here, as the values lie in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import onnx

Shape = list[int]
Attributes = Mapping[str, list[int]]
"""Whole numbers of a node, single ones too as lists; ``auto_pad`` is 1 where it keeps the size."""
BLOCK = 16
"""Channels that the kernels compute at once; fewer cost as many."""


@dataclass(frozen=True)
class Kernel:
    """One node of an optimized graph.

    ``kind``: ``f32`` or ``int8`` with ``pointwise``, ``dense``, ``depthwise``, ``grouped`` or ``product`` for those with
    weights, else the operator. ``macs``: multiply-accumulates, channels padded to whole blocks. ``weights``: how many.
    ``patches``: what is gathered for a kernel of more than one pixel: elements in float, pointers to pixels as integers. ``elements``: read or written, whichever is more.
    """

    name: str
    kind: str
    macs: float = 0.0
    weights: float = 0.0
    patches: float = 0.0
    elements: float = 0.0


def kernels(optimized: onnx.ModelProto, image: Sequence[int] = ()) -> list[Kernel]:
    """The kernels in the order they run for one image; an unknown batch counts as 1.

    ``image``: shape of the first input without its batch, where the graph leaves it open.
    """
    graph = optimized.graph
    weights: dict[str, Shape] = {one.name: list(one.dims) for one in graph.initializer}
    shapes = dict(weights)
    for one in (*graph.input, *graph.value_info, *graph.output):
        sizes = one.type.tensor_type.shape.dim
        if sizes and all(size.dim_value for size in sizes[1:]):
            shapes[one.name] = [size.dim_value or 1 for size in sizes]
    if graph.input and image:
        shapes.setdefault(graph.input[0].name, [1, *image])
    found = []
    for node in graph.node:
        attributes = {one.name: _numbers(one) for one in node.attribute}
        given = [shapes.get(name, []) for name in node.input]
        for name in node.output:
            if name and name not in shapes:
                shapes[name] = _out_shape(node, given, attributes)
        out = shapes.get(node.output[0], [])
        dynamic = [shapes[name] for name in node.input if name in shapes and name not in weights]
        found.append(_kernel(node, dynamic, given, out, attributes))
    return found


def _numbers(attribute: onnx.AttributeProto) -> list[int]:
    if attribute.type == onnx.AttributeProto.STRING:
        return [int(attribute.s.startswith(b"SAME"))]
    return list(attribute.ints) or [attribute.i]


def _kernel(
    node: onnx.NodeProto, dynamic: list[Shape], given: list[Shape], out: Shape, attributes: Attributes
) -> Kernel:
    elements = float(max([prod(out), *(prod(one) for one in dynamic)]))
    blocked = node.domain.endswith("nchwc") and node.op_type.endswith("Pool")
    plain = Kernel(node.name, f"blocked {node.op_type}" if blocked else node.op_type, elements=elements)
    if node.op_type in ("Conv", "FusedConv", "QLinearConv"):
        weight = given[3 if node.op_type == "QLinearConv" else 1]
        return _convolution(plain, node, weight, out, attributes) if len(weight) > 2 else plain
    if node.op_type in _PRODUCTS:
        index = _PRODUCTS[node.op_type]
        weight = given[index] if index < len(given) else []
        if weight and out:
            rows = prod(out) / out[-1]
            precision = "int8" if node.op_type not in ("Gemm", "MatMul", "FusedGemm", "FusedMatMul") else "f32"
            macs = rows * prod(weight)
            return Kernel(node.name, f"{precision} product", macs, float(prod(weight)), 0.0, elements)
    return plain


_PRODUCTS = {
    "Gemm": 1, "MatMul": 1, "FusedGemm": 1, "FusedMatMul": 1, "QGemm": 3, "QLinearMatMul": 3, "MatMulIntegerToFloat": 1,
    "DynamicQuantizeMatMul": 1,
}  # fmt: skip


def _convolution(plain: Kernel, node: onnx.NodeProto, weight: Shape, out: Shape, attributes: Attributes) -> Kernel:
    group, integer = attributes.get("group", [1])[0], node.op_type == "QLinearConv"
    taps = prod(weight[2:])
    precision = "int8" if integer else ("f32" if node.domain.endswith("nchwc") else "plain f32")
    if group > 1 and weight[1] == 1 and group == weight[0]:
        odd = " odd" if integer and group % BLOCK else ""
        channels = group if integer else _whole(group)
        pixels = prod(out) / max(group, 1)
        return Kernel(
            plain.name,
            f"{precision} depthwise{odd}",
            pixels * channels * taps,
            float(group * taps),
            pixels * taps if integer else 0.0,
            plain.elements,
        )
    pixels = prod(out) / max(weight[0], 1)
    inputs = weight[1] * taps
    kind = "grouped" if group > 1 else ("pointwise" if taps == 1 else "dense")
    if kind == "dense" and not integer and weight[1] < BLOCK:
        kind = "first"
    outputs = group * _whole(weight[0] // group)
    macs = pixels * outputs * (-(-inputs // 4) * 4 if integer else inputs)
    patches = pixels * (taps if integer and group == 1 else inputs * group) if taps > 1 else 0.0
    return Kernel(plain.name, f"{precision} {kind}", macs, float(prod(weight)), patches, plain.elements)


def _whole(channels: int) -> int:
    return -(-channels // BLOCK) * BLOCK


def _out_shape(node: onnx.NodeProto, given: list[Shape], attributes: Attributes) -> Shape:
    rule = _SHAPES.get(node.op_type)
    first = given[2 if node.op_type == "QLinearConcat" else 0] if given else []
    if rule is not None and first:
        try:
            return rule(node, given, attributes)
        except IndexError:  # behind a Reshape to sizes that are computed the rank is only guessed
            return list(first)
    if rule is not None:
        return []
    longest = max((len(one) for one in given), default=0)
    if node.op_type.startswith("QLinear") or node.op_type in ("Add", "Mul", "Min", "Max", "Sub", "Div"):
        full = [[1] * (longest - len(one)) + one for one in given if one]
        return [max(sizes) for sizes in zip(*full, strict=True)]
    return list(first)


def _of_convolution(node: onnx.NodeProto, given: list[Shape], attributes: Attributes) -> Shape:
    weight = given[3 if node.op_type == "QLinearConv" else 1]
    return _swept(node, given[0], attributes, channels=weight[0], kernel=weight[2:])


def _of_pool(node: onnx.NodeProto, given: list[Shape], attributes: Attributes) -> Shape:
    kernel = attributes.get("kernel_shape", [])
    return _swept(node, given[0], attributes, channels=None, kernel=kernel)


def _swept(node: onnx.NodeProto, shape: Shape, attributes: Attributes, *, channels: int | None, kernel: Shape) -> Shape:
    last = attributes.get("channels_last", [0])[0] == 1 or node.op_type == "NhwcMaxPool"
    sizes, count = (shape[1:-1], shape[-1]) if last else (shape[2:], shape[1])
    rank = len(sizes)
    strides, dilations = (attributes.get(key, [1] * rank) for key in ("strides", "dilations"))
    pads = attributes.get("pads", [0] * 2 * rank)
    same = attributes.get("auto_pad", [0])[0] == 1
    up = strides if attributes.get("ceil_mode", [0])[0] else [1] * rank
    swept = []
    for i, size in enumerate(sizes):
        room = size + pads[i] + pads[i + rank] - dilations[i] * (kernel[i] - 1) - 1
        swept.append(-(-size // strides[i]) if same else (room + up[i] - 1) // strides[i] + 1)
    channels = count if channels is None else channels
    return [shape[0], *swept, channels] if last else [shape[0], channels, *swept]


def _of_global_pool(node: onnx.NodeProto, given: list[Shape], attributes: Attributes) -> Shape:
    shape = given[0]
    ones = [1] * (len(shape) - 2)
    return [shape[0], *ones, shape[-1]] if attributes.get("channels_last", [0])[0] else [*shape[:2], *ones]


def _of_concat(node: onnx.NodeProto, given: list[Shape], attributes: Attributes) -> Shape:
    parts = given[2::3] if node.op_type == "QLinearConcat" else given
    parts = [one for one in parts if one]
    axis = attributes.get("axis", [1])[0]
    joined = list(parts[0])
    joined[axis] = sum(one[axis] for one in parts)
    return joined


def _of_transpose(node: onnx.NodeProto, given: list[Shape], attributes: Attributes) -> Shape:
    order = attributes.get("perm") or list(range(len(given[0])))[::-1]
    return [given[0][axis] for axis in order]


def _of_product(node: onnx.NodeProto, given: list[Shape], attributes: Attributes) -> Shape:
    weight = given[_PRODUCTS[node.op_type]]
    columns = weight[-2 if attributes.get("transB", [0])[0] else -1] if len(weight) > 1 else 1
    return [*given[0][:-1], columns]


def _of_numbers(node: onnx.NodeProto, given: list[Shape], attributes: Attributes) -> Shape:
    return [1]  # a shape or an index, whatever it is computed from


_SHAPES: dict[str, Callable[[onnx.NodeProto, list[Shape], Attributes], Shape]] = {
    "Conv": _of_convolution,
    "FusedConv": _of_convolution,
    "QLinearConv": _of_convolution,
    "MaxPool": _of_pool,
    "AveragePool": _of_pool,
    "NhwcMaxPool": _of_pool,
    "QLinearAveragePool": _of_pool,
    "GlobalAveragePool": _of_global_pool,
    "QLinearGlobalAveragePool": _of_global_pool,
    "Concat": _of_concat,
    "QLinearConcat": _of_concat,
    "Transpose": _of_transpose,
    "Shape": _of_numbers,
    **dict.fromkeys(_PRODUCTS, _of_product),
}
