"""Small ONNX files for engines: a convolution, and whatever node is to be refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def small_net(path: Path, *, batch: int | str = "batch", size: int | str = 8, kind=np.float32) -> Path:
    """Conv–Relu–GlobalAveragePool–Flatten–Gemm on pictures ``[batch, 3, size, size]``."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((8, 3, 3, 3)),
        "b": rng.standard_normal(8),
        "fw": rng.standard_normal((4, 8)),
        "fb": rng.standard_normal(4),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "fw", "fb"], ["output"], "fc", transB=1),
    ]
    element = TensorProto.FLOAT16 if kind == np.float16 else TensorProto.FLOAT
    return save(
        path,
        nodes,
        [numpy_helper.from_array(value.astype(kind), name) for name, value in weights.items()],
        ("input", element, [batch, 3, size, size]),
        ("output", element, [batch, 4]),
    )


def one_node(path: Path, op: str, count: int = 1, domain: str = "", **attributes) -> Path:
    """``count`` nodes of one operator, one behind the other, each of one input."""
    names = ["input", *(f"v{i}" for i in range(1, count)), "output"]
    nodes = [
        helper.make_node(op, [names[i]], [names[i + 1]], f"bad{i}", domain=domain, **attributes) for i in range(count)
    ]
    shape = ["batch", 3, 8, 8]
    extra = [domain] if domain else []
    return save(path, nodes, [], ("input", TensorProto.FLOAT, shape), ("output", TensorProto.FLOAT, shape), extra)


def counting_net(path: Path) -> Path:
    """The places of all positive values, whose number only the run tells."""
    nodes = [
        helper.make_node("Relu", ["input"], ["r"], "relu"),
        helper.make_node("NonZero", ["r"], ["output"], "places"),
    ]
    given = ("input", TensorProto.FLOAT, ["batch", 3, 8, 8])
    return save(path, nodes, [], given, ("output", TensorProto.INT64, [4, "count"]))


def save(path: Path, nodes, weights, given, out, domains=()) -> Path:
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info(*given)], [helper.make_tensor_value_info(*out)], weights
    )
    opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid(name, 1) for name in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), str(path))
    return path


def quantized_net(path: Path, *, zero: int = 0, kind=np.int8, bias: bool = False) -> Path:
    """A Q/DQ convolution: in the TensorRT dialect, or with a zero point, type or integer bias that breaks it."""
    rng = np.random.default_rng(0)
    low = kind(zero)
    weights = {
        "s": np.float32(0.02),
        "z": low,
        "qw": rng.integers(-127, 127, (8, 3, 3, 3), dtype=np.int8),
        "ws": np.full(8, 0.01, np.float32),
        "wz": np.zeros(8, np.int8),
        "b": np.zeros(8, np.int32) if bias else np.zeros(8, np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "s", "z"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dq"),
        helper.make_node("DequantizeLinear", ["qw", "ws", "wz"], ["w"], "wdq", axis=0),
        helper.make_node("Conv", ["d", "w", "bias"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["output"], "relu"),
    ]
    if bias:
        weights |= {"bs": np.full(8, 0.0002, np.float32), "bz": np.zeros(8, np.int32)}
        nodes.insert(3, helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bias"], "bdq", axis=0))
    else:
        nodes[3].input[2] = "b"
    return save(
        path,
        nodes,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
        ("input", TensorProto.FLOAT, ["batch", 3, 8, 8]),
        ("output", TensorProto.FLOAT, ["batch", 8, 8, 8]),
    )


def pictures(n, size=8, kind=np.float32):
    """``n`` seeded inputs of these networks, ``[n, 3, size, size]``."""
    return np.random.default_rng(n).standard_normal((n, 3, size, size)).astype(kind)


def pair_net(path: Path, *, kind=np.float32) -> Path:
    """Two images of unlike size, a mask and a table's row to a score and a label: ``[batch, 4]`` and int64 ``[batch]``."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((8, 3, 3, 3)).astype(kind),
        "table": rng.standard_normal((2, 8)).astype(kind),
        "fw": rng.standard_normal((8, 4)).astype(kind),
    }
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes = [
        helper.make_node("Cast", ["right"], ["rf"], "cast", to=element),
        helper.make_node("Conv", ["left", "w"], ["lc"], "left_conv"),
        helper.make_node("Conv", ["rf", "w"], ["rc"], "right_conv"),
        helper.make_node("GlobalMaxPool", ["lc"], ["lp"], "left_pool"),
        helper.make_node("GlobalMaxPool", ["rc"], ["rp"], "right_pool"),
        helper.make_node("Sub", ["lp", "rp"], ["d"], "difference"),
        helper.make_node("Flatten", ["d"], ["v"], "flat"),
        helper.make_node("Gather", ["table", "row"], ["g"], "look_up"),
        helper.make_node("Add", ["v", "g"], ["s"], "sum"),
        helper.make_node("MatMul", ["s", "fw"], ["m"], "head"),
        helper.make_node("Where", ["mask", "m", "m2"], ["score"], "choose"),
        helper.make_node("ArgMax", ["score"], ["label"], "best", axis=1, keepdims=0),
        helper.make_node("Neg", ["m"], ["m2"], "minus"),
    ]
    nodes.insert(10, nodes.pop())
    inputs = [
        ("left", element, ["batch", 3, 8, 8]),
        ("right", TensorProto.UINT8, ["batch", 3, "height", 12]),
        ("mask", TensorProto.BOOL, ["batch", 1]),
        ("row", TensorProto.INT64, ["batch"]),
    ]
    outputs = [("score", element, ["batch", 4]), ("label", TensorProto.INT64, ["batch"])]
    graph = helper.make_graph(
        nodes,
        "pair",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path
