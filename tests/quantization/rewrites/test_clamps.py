import numpy as np
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit.quantization.calibrate import observe
from deploykit.quantization.qdq.emit import emit_qdq
from deploykit.quantization.qdq.placement_ort_cpu import plan_ort_cpu
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.ranges import parameters
from deploykit.quantization.schemes import U8
from tests.quantization.graphs_for_tests import Net, opener, optimized_ops, ort_cpu, pictures, run, snr_db


def bounded_net(seed, low=0.2, high=2.0):
    """Two convolutions with an upper bound for each channel between them."""
    net = Net(seed=seed)
    bound = net.random.uniform(low, high, (1, 8, 1, 1)).astype(np.float32)
    a = net.add("Min", [net.add("Relu", [net.conv("input", 3, 8)]), net.weight(bound)])
    b = net.add("Relu", [net.conv(a, 8, 8)])
    net.gemm(net.add("Flatten", [net.add("GlobalAveragePool", [b])]), 8, 5)
    return net.model()


def quantized(proto):
    model = prepare(proto)
    plan = plan_ort_cpu(model.graph)
    seen = observe(ir.to_proto(model), list(plan.points), np.array_split(pictures(32), 4), opener)
    return ir.to_proto(emit_qdq(model, plan, parameters(seen, U8, "minmax"), weight_bits=ort_cpu().weight_bits))


def test_the_bound_stays_between_integers(tmp_path):
    ops = optimized_ops(quantized(bounded_net(0)), tmp_path)
    assert ops.count("QLinearConv") == 2
    assert ops.count("Min") == 1
    assert ops.count("QuantizeLinear") == 1
    assert not {"Conv", "Relu"} & set(ops)


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_the_bound_holds(seed):
    x = pictures(8, seed=3)
    proto = bounded_net(seed)
    assert snr_db(run(proto, x), run(quantized(proto), x)) > 15
