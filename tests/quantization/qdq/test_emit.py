import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from deploykit.base.errors import BadInput
from deploykit.quantization.calibrate import observe
from deploykit.quantization.qdq.emit import emit_qdq
from deploykit.quantization.qdq.placement_ort_cpu import plan_ort_cpu
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.ranges import parameters
from deploykit.quantization.rewrites.hard_activations import hard_swish_scale
from deploykit.quantization.schemes import U8, affine
from tests.quantization.graphs_for_tests import (
    HERE,
    Net,
    concat_net,
    mixing_net,
    mobile_net,
    opener,
    optimized,
    optimized_ops,
    pictures,
    residual_net,
    run,
    snr_db,
)

BITS = HERE["ort-cpu"].of_width(8).weight_bits
NEAR_DB = 30 if BITS == 8 else 24


def quantized(proto, method="minmax", **options):
    model = prepare(proto)
    plan = plan_ort_cpu(model.graph, **options)
    seen = observe(ir.to_proto(model), list(plan.points), np.array_split(pictures(32), 4), opener)
    made = ir.to_proto(emit_qdq(model, plan, parameters(seen, U8, method), weight_bits=BITS))
    onnx.checker.check_model(made, full_check=True)
    return made


@pytest.mark.parametrize("make", [residual_net, mobile_net])
@pytest.mark.parametrize("method", ["minmax", "mse", "percentile"])
def test_close_to_float(make, method):
    x = pictures(16, seed=7)
    assert snr_db(run(make(), x), run(quantized(make(), method), x)) > 18


def test_every_convolution_runs_on_integers(tmp_path):
    ops = optimized_ops(quantized(residual_net()), tmp_path)
    assert ops.count("QLinearConv") == 3
    assert not {"Conv", "Relu", "Add", "ReduceMean", "GlobalAveragePool", "MaxPool"} & set(ops)


def test_hard_activations_leave_no_float_node(tmp_path):
    ops = optimized_ops(quantized(mobile_net()), tmp_path)
    assert ops.count("QLinearConv") == 6
    assert ops.count("QLinearMul") == 3
    assert not {"HardSwish", "HardSigmoid", "Mul", "Conv", "Clip", "DequantizeLinear"} & set(ops)


def test_products_that_float_nodes_read_are_written_in_float(tmp_path):
    made = quantized(mixing_net())
    ops = optimized_ops(made, tmp_path)
    assert ops.count("MatMulIntegerToFloat") == 2
    assert "QLinearMatMul" not in ops
    x = pictures(16, seed=7)
    assert snr_db(run(mixing_net(), x), run(made, x)) > NEAR_DB


def test_weights_are_stored_as_int8():
    made = quantized(residual_net())
    kinds = {t.name: t.data_type for t in made.graph.initializer}
    assert [kinds[n] for n in kinds if n.endswith("weight.q")] == [onnx.TensorProto.INT8] * 4
    assert not [t.name for t in made.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1]


def test_nodes_kept_float_stay_float(tmp_path):
    stem = prepare(residual_net()).graph.node(0).name
    ops = optimized_ops(quantized(residual_net(), keep_float=frozenset({stem})), tmp_path)
    assert ops.count("QLinearConv") == 2
    assert sum(op in ("Conv", "FusedConv") for op in ops) == 1


def test_float_sums_keep_the_skip_unrounded():
    x = pictures(16, seed=5)
    reference = run(residual_net(), x)
    rounded, exact = quantized(residual_net()), quantized(residual_net(), float_adds=True, float_head=True)
    assert snr_db(reference, run(exact, x)) >= snr_db(reference, run(rounded, x)) - 1
    gemm = next(node for node in exact.graph.node if node.op_type == "Gemm")
    assert not gemm.input[1].endswith("dequantized")


@given(st.floats(0.05, 40))
def test_hard_swish_through_integers_is_within_rounding(high):
    step = hard_swish_scale(affine(-5.0, high, U8))
    x = np.linspace(-6, high, 400).astype(np.float32)
    q = step.quantize(x)
    ours = step.dequantize(q) * (np.minimum(q, 2 * step.zero_point).astype(np.float32) * np.float32(step.scale / 6))
    truth = x * np.clip(x + 3, 0, 6) / 6
    slope = 1.0 + 1e-3  # of HardSwish, between -0.5 and 1.5 at most below 3, 1 above
    clipped = np.minimum(truth, step.dequantize(np.asarray([255]))[0])
    assert np.abs(ours - clipped).max() <= 1.5 * slope * step.scale / 2 + 1e-5 + step.scale**2 / 24


def test_no_images_is_an_error():
    model = prepare(residual_net())
    plan = plan_ort_cpu(model.graph)
    with pytest.raises(BadInput, match="no calibration images"):
        observe(ir.to_proto(model), list(plan.points), [], opener)


def test_a_computed_weight_stays_float():
    net = Net()
    a = net.conv("input", 3, 4)
    w = net.add("Reshape", [net.add("GlobalAveragePool", [a]), net.weight(np.asarray([-1, 4, 1, 1], np.int64))])
    net.add("Conv", [a, w], kernel_shape=[1, 1])
    model = prepare(net.model())
    plan = plan_ort_cpu(model.graph)
    assert list(plan.skipped.values()) == ["its weight is computed at run time"]


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_random_networks_stay_close(seed):
    x = pictures(8, seed=3)
    assert snr_db(run(residual_net(seed), x), run(quantized(residual_net(seed)), x)) > 15


def test_what_is_concatenated_shares_one_scale_so_that_it_is_only_copied(tmp_path):
    made = quantized(concat_net())
    node = next(node for node in optimized(made, tmp_path).graph.node if node.op_type == "QLinearConcat")
    scales = {tensor.name: numpy_helper.to_array(tensor) for tensor in optimized(made, tmp_path).graph.initializer}
    assert len({float(scales[name]) for name in (node.input[0], *node.input[3::3])}) == 1


def test_a_bound_that_its_rounding_took_over_is_not_widened_by_a_concat():
    net = Net()
    a = net.conv("input", 3, 16)
    zero, one = net.weight(np.asarray(0, np.float32)), net.weight(np.asarray(0.1, np.float32))
    b = net.add("Clip", [net.conv("input", 3, 16), zero, one])
    net.add("Relu", [net.conv(net.add("Concat", [a, b], axis=1), 32, 8)])
    proto = net.model()
    x = pictures(8, seed=2)
    assert snr_db(run(proto, x), run(quantized(proto), x)) > NEAR_DB


def _behind_concat(activation, *, constant=False):
    """``activation`` of two convolutions joined, or of one and a constant map, with a convolution behind it."""
    net = Net()
    a = net.add("Relu", [net.conv("input", 3, 16)])
    other = net.conv(a, 16, 16, 1)
    if constant:
        pattern = net.weight(net.random.normal(size=(1, 16, 4, 4)).astype(np.float32))
        scales = net.weight(np.asarray([1, 1, 4, 4], np.float32))
        wide = net.add("Resize", [net.add("Pad", [pattern, net.weight(np.zeros(8, np.int64))]), "", scales])
        other = net.add("Add", [other, wide])
    joined = net.add("Concat", [net.conv(a, 16, 16), other], axis=1)
    bounds = [net.weight(np.float32(bound)) for bound in ((0, 2) if activation == "Clip" else ())]
    b = net.conv(net.add(activation, [joined, *bounds]), 32, 16)
    net.gemm(net.add("Flatten", [net.add("GlobalAveragePool", [b])]), 16, 10)
    return net.model()


@pytest.mark.parametrize("activation", ["Relu", "Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Sigmoid"])
@pytest.mark.parametrize("constant", [False, True])
def test_an_activation_behind_a_concat_has_a_range_of_its_own(activation, constant):
    proto, x = _behind_concat(activation, constant=constant), pictures(16, seed=7)
    assert snr_db(run(proto, x), run(quantized(proto), x)) > NEAR_DB - 5


def test_a_concat_takes_its_activation_over_and_runs_on_integers(tmp_path):
    ops = optimized_ops(quantized(_behind_concat("Relu")), tmp_path)
    assert ops.count("QLinearConcat") == 1
    assert not {"Concat", "Relu", "Conv"} & set(ops)
