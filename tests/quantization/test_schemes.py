import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from deploykit.quantization.schemes import S8, U8, Scheme, affine, channel_scales, largest_pair, quantize_weight
from tests.quantization.graphs_for_tests import session

bounds = st.tuples(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32)).map(sorted)


@given(bounds, st.sampled_from([U8, S8, Scheme(False, False, 7)]))
def test_zero_is_exact_and_the_range_is_covered(limits, scheme):
    step = affine(*limits, scheme)
    assert step.dequantize(step.quantize(np.zeros(1)))[0] == 0
    inside = np.linspace(min(limits[0], 0), max(limits[1], 0), 50)
    error = np.abs(step.dequantize(step.quantize(inside)) - inside)
    assert error.max() <= step.scale * 1.01


@given(bounds)
def test_symmetric_means_zero_point_zero(limits):
    step = affine(*limits, S8)
    assert step.zero_point == 0
    assert step.quantize(np.asarray([-1e9, 1e9])).tolist() == [-127, 127]


@given(bounds, st.integers(0, 2**31))
def test_numbers_equal_onnx_quantize_linear(limits, seed):
    step = affine(*limits, U8)
    x = (np.random.default_rng(seed).normal(size=64) * max(1e-3, abs(limits[1]))).astype(np.float32)
    constants = [
        helper.make_tensor("s", TensorProto.FLOAT, [], [step.scale]),
        helper.make_tensor("z", TensorProto.UINT8, [], [step.zero_point]),
    ]
    node = helper.make_node("QuantizeLinear", ["input", "s", "z"], ["y"])
    graph = helper.make_graph(
        [node], "q", [helper.make_tensor_value_info("input", TensorProto.FLOAT, [64])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [64])], constants,
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    onnx.checker.check_model(proto)
    theirs = session(proto).run(None, {"input": x})[0]
    # A value on the edge between two integers may fall to either side: float32 division or its reciprocal.
    assert np.abs(theirs.astype(int) - step.quantize(x).astype(int)).max() <= 1
    assert (theirs == step.quantize(x)).mean() >= 0.95


def test_a_constant_zero_tensor_has_a_scale():
    assert affine(0.0, 0.0, U8).scale > 0
    assert affine(0.0, 0.0, S8).scale > 0


def test_a_channel_takes_as_much_of_eight_bits_as_its_neighbours_allow():
    weight = np.zeros((4, 2, 1, 2), np.float32)
    weight[0] = [[[1, 0]], [[0, 1]]]  # alone in both layouts: taps last 1 0 0 1, channels last 1 0 0 1
    weight[1] = [[[1, 1]], [[0, 0]]]  # neighbours where taps are last
    weight[2] = [[[1, 0]], [[1, 0]]]  # where channels are
    weight[3] = [[[1, -1]], [[0, 0]]]  # of unlike signs
    np.testing.assert_allclose(largest_pair(weight, 0), [1, 2, 2, 1])
    scales = channel_scales(weight, 0, paired=True)
    integers = quantize_weight(weight, scales, 0).astype(int)
    assert np.abs(integers).max(axis=(1, 2, 3)).tolist() == [127, 64, 64, 127]
    assert (largest_pair(integers, 0) <= 128).all()


@pytest.mark.parametrize("shape", [(8, 5, 3, 3), (8, 16), (4, 1, 3, 3), (3, 7, 1, 1)])
def test_no_two_neighbours_overflow_sixteen_bits(shape):
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    integers = quantize_weight(weight, channel_scales(weight, 0, paired=True), 0).astype(int)
    assert 255 * largest_pair(integers, 0).max() < 2**15
    up = np.ceil(np.abs(weight) / channel_scales(weight, 0, paired=True).reshape(-1, *[1] * (weight.ndim - 1)))
    assert 255 * largest_pair(np.sign(weight) * up, 0).max() < 2**15  # whichever way they are rounded
