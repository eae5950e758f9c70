"""Small real networks as ONNX, built node by node, and how to run them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from deploykit.base.environment import isa
from deploykit.quantization.qdq.dialects import DIALECTS, Dialect, dialect_for

HERE = {target: dialect_for(target, isa()) for target in DIALECTS}
"""The dialects as this CPU computes them: without VNNI, weights of 8 bits would overflow its sums."""


def ort_cpu(bits: int = 8) -> Dialect:
    """ONNX Runtime's dialect here, with weights of at most ``bits``."""
    return HERE["ort-cpu"].of_width(bits)


class Net:
    """Collects nodes and weights of a picture network."""

    def __init__(self, channels: int = 3, size: int = 16, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.size, self.channels, self.here = size, channels, "input"

    def add(self, op: str, inputs: list[str], **attributes: object) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"n_{name}", **attributes))
        self.here = name
        return name

    def weight(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def conv(self, source: str, into: int, out: int, k: int = 3, stride: int = 1, group: int = 1) -> str:
        w = self.random.normal(size=(out, into // group, k, k)) * np.sqrt(2 / (into // group * k * k))
        b = self.random.normal(size=out) * 0.2
        inputs = [source, self.weight(w.astype(np.float32)), self.weight(b.astype(np.float32))]
        return self.add("Conv", inputs, pads=[k // 2] * 4, strides=[stride] * 2, kernel_shape=[k, k], group=group)

    def gemm(self, source: str, into: int, out: int) -> str:
        w = self.random.normal(size=(out, into)).astype(np.float32) / np.sqrt(into)
        return self.add(
            "Gemm", [source, self.weight(w.astype(np.float32)), self.weight(np.zeros(out, np.float32))], transB=1
        )

    def model(self, opset: int = 20) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", self.channels, self.size, self.size])
        y = helper.make_tensor_value_info(self.here, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "net", [x], [y], self.weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        return onnx.shape_inference.infer_shapes(made)


def residual_net(seed: int = 0) -> onnx.ModelProto:
    """Stem, max-pooling, a residual block, pooling written as the dynamo exporter writes it, classifier."""
    net = Net(seed=seed)
    a = net.add("Relu", [net.conv("input", 3, 16)])
    a = net.add("MaxPool", [a], kernel_shape=[2, 2], strides=[2, 2])
    b = net.add("Relu", [net.conv(a, 16, 16)])
    c = net.add("Relu", [net.add("Add", [net.conv(b, 16, 16), a])])
    axes = net.weight(np.asarray([2, 3], np.int64))
    net.gemm(net.add("ReduceMean", [c, axes], keepdims=0), 16, 10)
    return net.model()


def mobile_net(seed: int = 0, width: int = 24, dynamo: bool = False) -> onnx.ModelProto:
    """A MobileNetV3 block: HardSwish stem, depthwise with Clip, squeeze-and-excite with HardSigmoid, projection.

    ``dynamo`` writes its pooling as that exporter does.
    """
    net = Net(seed=seed)
    alpha = float(np.float32(1 / 6))
    a = net.add("HardSwish", [net.conv("input", 3, 16, stride=2)])
    b = net.add("HardSwish", [net.conv(a, 16, width, 1)])
    zero, six = net.weight(np.asarray(0, np.float32)), net.weight(np.asarray(6, np.float32))
    d = net.add("Clip", [net.conv(b, width, width, 3, group=width), zero, six])
    if dynamo:
        pooled = net.add("ReduceMean", [d, net.weight(np.asarray([2, 3], np.int64))], keepdims=1)
    else:
        pooled = net.add("GlobalAveragePool", [d])
    s = net.add("Relu", [net.conv(pooled, width, 8, 1)])
    g = net.add("HardSigmoid", [net.conv(s, 8, width, 1)], alpha=alpha, beta=0.5)
    e = net.conv(net.add("Mul", [d, g]), width, 16, 1)
    net.gemm(net.add("Flatten", [net.add("GlobalAveragePool", [net.add("Add", [e, a])])]), 16, 10)
    return net.model()


def concat_net(seed: int = 0) -> onnx.ModelProto:
    """An Inception-like block: three branches of different range, concatenated, pooled and read by a convolution."""
    net = Net(seed=seed)
    a = net.add("Relu", [net.conv("input", 3, 16)])
    b = net.add("Relu", [net.conv(a, 16, 16, 1)])
    c = net.add("Relu", [net.conv(net.add("Relu", [net.conv(a, 16, 16, 1)]), 16, 16)])
    d = net.add("MaxPool", [a], kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
    joined = net.add("Concat", [b, c, d], axis=1)
    e = net.add("Relu", [net.conv(net.add("MaxPool", [joined], kernel_shape=[2, 2], strides=[2, 2]), 48, 32)])
    net.gemm(net.add("Flatten", [net.add("GlobalAveragePool", [e])]), 32, 10)
    return net.model()


def widening_net(seed: int = 0) -> onnx.ModelProto:
    """A residual block that changes its width: the skip is a convolution too, and stands before the longer branch."""
    net = Net(seed=seed)
    a = net.add("Relu", [net.conv("input", 3, 16)])
    skip = net.conv(a, 16, 32, 1, stride=2)
    b = net.conv(net.add("Relu", [net.conv(a, 16, 32, 3, stride=2)]), 32, 32)
    c = net.add("Relu", [net.add("Add", [skip, b])])
    net.gemm(net.add("Flatten", [net.add("GlobalAveragePool", [c])]), 32, 10)
    return net.model()


def mixing_net(seed: int = 0) -> onnx.ModelProto:
    """ConvNeXt's block: depthwise convolution, LayerNormalization over channels, two products with Gelu between, a skip."""
    net = Net(seed=seed)
    a = net.conv("input", 3, 16)
    b = net.add("Transpose", [net.conv(a, 16, 16, 7, group=16)], perm=[0, 2, 3, 1])
    ones, zeros = net.weight(np.ones(16, np.float32)), net.weight(np.zeros(16, np.float32))
    b = net.add("LayerNormalization", [b, ones, zeros], axis=-1)
    for into, out in ((16, 32), (32, 16)):
        weight, bias = net.random.normal(size=(into, out)) / np.sqrt(into), net.random.normal(size=out) * 0.2
        product = net.add("MatMul", [b, net.weight(weight.astype(np.float32))])
        b = net.add("Add", [product, net.weight(bias.astype(np.float32))])
        b = net.add("Gelu", [b]) if out == 32 else b
    c = net.add("Add", [net.add("Transpose", [b], perm=[0, 3, 1, 2]), a])
    net.gemm(net.add("Flatten", [net.add("GlobalAveragePool", [c])]), 16, 10)
    return net.model()


def grouped_net(width: int = 8, groups: int = 13, seed: int = 0) -> onnx.ModelProto:
    """RegNet's block: a grouped convolution between two pointwise ones, squeeze-and-excite in it, a skip."""
    net = Net(seed=seed)
    channels = width * groups
    a = net.add("Relu", [net.conv("input", 3, 16)])
    b = net.add("Relu", [net.conv(a, 16, channels, 1)])
    b = net.add("Relu", [net.conv(b, channels, channels, group=groups)])
    s = net.add("Relu", [net.conv(net.add("GlobalAveragePool", [b]), channels, 8, 1)])
    s = net.add("Sigmoid", [net.conv(s, 8, channels, 1)])
    c = net.add("Add", [net.conv(net.add("Mul", [b, s]), channels, 16, 1), a])
    net.gemm(net.add("Flatten", [net.add("GlobalAveragePool", [c])]), 16, 10)
    return net.model()


def silu_net(seed: int = 0) -> onnx.ModelProto:
    """EfficientNet's parts: SiLU behind a convolution, squeeze-and-excite with a Sigmoid, a skip."""
    net = Net(seed=seed)

    def silu(x: str) -> str:
        return net.add("Mul", [x, net.add("Sigmoid", [x])])

    a = silu(net.conv("input", 3, 16, stride=2))
    b = silu(net.conv(silu(net.conv(a, 16, 32, 1)), 32, 32, 3, group=32))
    s = silu(net.conv(net.add("GlobalAveragePool", [b]), 32, 8, 1))
    g = net.add("Sigmoid", [net.conv(s, 8, 32, 1)])
    e = net.conv(net.add("Mul", [b, g]), 32, 16, 1)
    net.gemm(net.add("Flatten", [net.add("GlobalAveragePool", [net.add("Add", [e, a])])]), 16, 10)
    return net.model()


def pictures(n: int, seed: int = 1, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3, size, size)).astype(np.float32)


def session(proto: onnx.ModelProto, *, integer_kernels: bool = True) -> ort.InferenceSession:
    options = ort.SessionOptions()
    if not integer_kernels:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(proto: onnx.ModelProto, x: np.ndarray, source: str = "input", *, integer_kernels: bool = True) -> np.ndarray:
    return session(proto, integer_kernels=integer_kernels).run(None, {source: x})[0]


def opener(proto: onnx.ModelProto):
    opened = session(proto)
    names = [output.name for output in opened.get_outputs()]
    source = opened.get_inputs()[0].name
    return lambda x: dict(zip(names, opened.run(None, {source: x}), strict=True))


def optimized_ops(proto: onnx.ModelProto, folder, *, as_on_arm: bool = False) -> list[str]:
    """Operators of the graph that ONNX Runtime really runs; ``as_on_arm`` keeps int8 activations int8."""
    return [node.op_type for node in optimized(proto, folder, as_on_arm=as_on_arm).graph.node]


def optimized(proto: onnx.ModelProto, folder, *, as_on_arm: bool = False) -> onnx.ModelProto:
    """The graph that ONNX Runtime really runs."""
    options = ort.SessionOptions()
    if as_on_arm:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.optimized_model_filepath, options.log_severity_level = str(folder / "optimized.onnx"), 4
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimized.onnx")


def snr_db(reference: np.ndarray, other: np.ndarray) -> float:
    noise = float(((reference - other) ** 2).sum())
    return float("inf") if noise == 0 else 10 * float(np.log10((reference**2).sum() / noise))


def plant_bad_layer(proto: onnx.ModelProto, first: str, second: str, decades: float = 3.0) -> onnx.ModelProto:
    """The same function, but convolution ``second`` hard to quantize: channels between the two spread over ``decades``.

    Only Relu may stand between them. Output channels of ``first`` are rescaled, which per-channel weights bear, and the
    input channels of ``second`` inversely, which no scale per output channel can follow.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    nodes = {node.name: node for node in made.graph.node}
    tensors = {tensor.name: tensor for tensor in made.graph.initializer}
    weight = numpy_helper.to_array(tensors[nodes[first].input[1]])
    factor = np.logspace(-decades / 2, decades / 2, len(weight)).astype(np.float32)
    np.random.default_rng(0).shuffle(factor)
    for name, shape in ((nodes[first].input[1], (-1, 1, 1, 1)), (nodes[first].input[2], (-1,))):
        scaled = numpy_helper.to_array(tensors[name]) * factor.reshape(shape)
        tensors[name].CopyFrom(numpy_helper.from_array(scaled, name))
    name = nodes[second].input[1]
    scaled = numpy_helper.to_array(tensors[name]) / factor.reshape(1, -1, 1, 1)
    tensors[name].CopyFrom(numpy_helper.from_array(scaled, name))
    return made
