"""ONNX graphs in memory, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort


def run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The first output."""
    return _session(proto).run(None, {"x": x})[0]


def values_of(proto: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every float value by name, the input among them."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(proto)
    del tapped.graph.output[:]
    names = [name for node in proto.graph.node for name in node.output]
    tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    found = dict(zip(names, _session(tapped).run(names, {"x": x}), strict=True))
    return {name: one for name, one in (found | {"x": x}).items() if one.dtype == np.float32}


def _session(proto: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
