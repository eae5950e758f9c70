import numpy as np
import onnx
import pytest

from deploykit.base.errors import BadInput
from deploykit.quantization.lint.lint import lint_graph
from deploykit.quantization.qdq.dialects import DIALECTS, dialect_for
from tests.quantization.graphs_for_tests import Net, concat_net, optimized, residual_net, run
from tests.quantization.qdq.test_dialects import NETS, quantized
from tests.quantization.tensorrt_for_tests import engine_bytes, parsed

I8, U8 = np.int8, np.uint8
SCALES = np.full(16, 0.01, np.float32)


class Paired(Net):
    """A network with Q/DQ written by hand."""

    def pair(self, value, scale=0.02, zero=I8(0), axis=None, read=None):
        more = {} if axis is None else {"axis": axis}
        to = [self.weight(np.asarray(scale, np.float32)), self.weight(np.asarray(zero))]
        back = to if read is None else [self.weight(np.asarray(read, np.float32)), to[1]]
        return self.add("DequantizeLinear", [self.add("QuantizeLinear", [value, *to], **more), *back], **more)

    def stored(self, array, scale, zero, axis=0):
        more = {} if axis is None else {"axis": axis}
        inputs = [self.weight(np.asarray(one)) for one in (array, scale, zero)]
        return self.add("DequantizeLinear", inputs, **more)

    def kernel(self, into=3, out=16, **changes):
        integers = self.random.integers(-100, 100, (out, into, 3, 3)).astype(I8)
        given = {"array": integers, "scale": np.full(out, 0.01, np.float32), "zero": np.zeros(out, I8), **changes}
        return self.stored(**given)

    def int8_conv(self, value, weight=None, bias=None):
        weight = weight or self.kernel()
        return self.add("Conv", [value, weight, *([bias] if bias else [])], kernel_shape=[3, 3], pads=[1] * 4)


def codes(proto, target):
    return {finding.code for finding in lint_graph(proto, target)}


def only(proto, target, code):
    found = [finding for finding in lint_graph(proto, target) if finding.code == code]
    assert found, f"{code} was not found in {lint_graph(proto, target)}"
    return found[0]


def broken_nets():
    def zero_point(net):
        return net.int8_conv(net.pair("input", zero=I8(3)))

    def unsigned_weight(net):
        integers = np.full((16, 3, 3, 3), 130, U8)
        return net.int8_conv(net.pair("input"), net.kernel(array=integers, zero=np.full(16, 128, U8)))

    def bias(net):
        return net.int8_conv(net.pair("input"), bias=net.stored(np.ones(16, np.int32), SCALES, np.zeros(16, np.int32)))

    def scale(net):
        return net.int8_conv(net.pair("input", scale=0.0))

    def operator(net):
        q = net.add("QuantizeLinear", ["input", net.weight(np.float32(0.1)), net.weight(U8(0))])
        one = [net.weight(np.float32(0.1)), net.weight(U8(0))]
        weight = [net.weight(np.ones((16, 3, 3, 3), I8)), net.weight(SCALES), net.weight(np.zeros(16, I8))]
        made = net.add("QLinearConv", [q, *one, *weight, *one], kernel_shape=[3, 3])
        return net.add("DequantizeLinear", [made, *one])

    return {
        "zero-point": zero_point, "unsigned": unsigned_weight, "bias-dq": bias, "scale": scale,
        "integer-operator": operator,
    }  # fmt: skip


@pytest.mark.parametrize("code", sorted(broken_nets()))
def test_what_breaks_tensorrt_is_what_its_parser_refuses(code):
    net = Paired()
    broken_nets()[code](net)
    finding = only(net.model(), "tensorrt-rtx", code)
    assert finding.breaks
    ok, said = parsed(net.model())
    assert not ok
    assert said


def test_integers_that_other_nodes_compute_on_break_the_build():
    net = Paired()
    one = [net.weight(np.float32(0.1)), net.weight(I8(0))]
    q = net.add("QuantizeLinear", ["input", *one])
    net.add("DequantizeLinear", [net.add("Min", [q, net.weight(I8(5))]), *one])
    assert only(net.model(), "tensorrt", "integer-compute").breaks
    with pytest.raises(AssertionError, match="Quantized constant"):
        engine_bytes(net.model())


def test_unsigned_activations_are_misread_without_a_word_and_therefore_break():
    net = Paired()
    net.int8_conv(net.pair("input", zero=U8(0)))
    finding = only(net.model(), "tensorrt", "unsigned")
    assert finding.breaks
    assert "all above 127 steps is cut off" in finding.message
    ok, said = parsed(net.model())
    assert ok
    assert any("Defaulting to INT8" in line for line in said)


def test_a_q_without_zero_point_is_unsigned():
    net = Paired()
    scale = net.weight(np.float32(0.1))
    net.add("DequantizeLinear", [net.add("QuantizeLinear", ["input", scale]), scale])
    assert [finding.code for finding in lint_graph(net.model(), "tensorrt") if finding.breaks] == [
        "unsigned",
        "unsigned",
    ]


@pytest.mark.parametrize("make", NETS)
def test_a_file_of_another_dialect_breaks_tensorrt(make):
    assert {"zero-point", "unsigned", "bias-dq"} <= codes(quantized(make(), "ort-cpu"), "tensorrt")
    assert not parsed(quantized(make(), "ort-cpu"))[0]


def test_every_finding_says_what_to_do():
    for target in DIALECTS:
        for finding in lint_graph(quantized(residual_net(), "ort-cpu"), target):
            assert finding.node
            assert finding.mend.endswith(".")


def test_a_pair_before_the_activation_or_on_both_inputs_of_a_sum_cuts_the_fusion():
    net = Paired()
    a = net.add("Relu", [net.pair(net.int8_conv(net.pair("input")))])
    b = net.int8_conv(net.pair(a), net.kernel(16))
    net.add("Add", [net.pair(a), net.pair(b)])
    found = lint_graph(net.model(), "tensorrt")
    assert [finding.code for finding in found] == ["cut-fusion", "residual-both"]
    assert not any(finding.breaks for finding in found)
    assert "its Relu" in found[0].message


def test_an_unrounded_skip_is_noted():
    net = Paired()
    a = net.add("Relu", [net.int8_conv(net.pair("input"))])
    net.add("Add", [a, net.int8_conv(net.pair(a), net.kernel(16))])
    assert codes(net.model(), "tensorrt") == {"residual-float"}


def test_concat_inputs_of_different_scales_are_noted():
    net = Paired()
    a = net.int8_conv(net.pair("input"))
    net.add("Concat", [net.pair(a, scale=0.1), net.pair(net.add("Relu", [a]), scale=0.2)], axis=1)
    assert codes(net.model(), "tensorrt") == {"concat-scales"}
    half = Paired()
    a = half.int8_conv(half.pair("input"))
    half.add("Concat", [half.pair(a), half.add("Relu", [a])], axis=1)
    assert "some inputs rounded and some not" in only(half.model(), "tensorrt", "concat-scales").message
    assert "concat-scales" not in codes(quantized(concat_net(), "tensorrt"), "tensorrt")


def computed_weight(net):
    a = net.int8_conv(net.pair("input"))
    pooled = net.add("GlobalAveragePool", [a])
    net.add("Conv", [net.pair(a), net.add("Reshape", [pooled, net.weight(np.asarray([-1, 16, 1, 1], np.int64))])])


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda net: net.conv("input", 3, 16), "neither its input nor its weight is quantized"),
        (lambda net: net.int8_conv("input"), "its input is not quantized"),
        (lambda net: net.conv(net.pair("input"), 3, 16), "its weight is not quantized"),
        (computed_weight, "its weight is computed at run time"),
    ],
)
@pytest.mark.parametrize("target", sorted(DIALECTS))
def test_a_convolution_that_stays_float_says_why(build, why, target):
    net = Paired()
    net.add("Relu", [net.int8_conv(net.pair("input"))])
    build(net)
    finding = only(net.model(), target, "float-conv")
    assert not finding.breaks
    assert why in finding.message


def test_a_float_model_breaks_every_target():
    for target in DIALECTS:
        assert [(f.code, f.breaks) for f in lint_graph(residual_net(), target)] == [("float-model", True)]


def test_scales_along_a_wrong_axis_or_for_channels_of_an_activation_are_noted():
    net = Paired()
    weight = net.kernel(scale=SCALES[:3], zero=np.zeros(3, I8), axis=1)
    net.int8_conv(net.pair("input", scale=SCALES[:3], zero=np.zeros(3, I8), axis=1), weight)
    assert codes(net.model(), "tensorrt") == {"per-channel-activation", "weight-axis"}
    flat = Paired()
    flat.int8_conv(flat.pair("input"), flat.kernel(scale=np.float32(0.1), zero=I8(0), axis=None))
    assert "one scale for all output channels" in only(flat.model(), "openvino", "weight-axis").message


@pytest.mark.parametrize(("target", "noted"), [("tensorrt", True), ("ort-cpu", False), ("openvino", False)])
def test_odd_channels_are_noted_where_they_cost(target, noted):
    net = Paired()
    net.pair(net.int8_conv(net.pair("input"), net.kernel(out=24)))
    assert ("channels" in codes(net.model(), target)) is noted


def test_odd_depthwise_channels_are_noted_for_onnx_runtime():
    net = Paired()
    a = net.pair(net.int8_conv(net.pair("input", zero=U8(9)), net.kernel(out=24)), zero=U8(9))
    depthwise = net.add("Conv", [a, net.kernel(1, 24)], kernel_shape=[3, 3], group=24)
    net.pair(depthwise, zero=U8(9))
    assert "24 channels, no multiple of 16" in only(net.model(), "ort-cpu", "channels").message


FLOAT_CODES = {"float-conv", "no-q-behind", "clamp-zero-point", "bias-scale", "per-channel-activation", "weight-axis"}


@pytest.mark.parametrize("make", NETS)
@pytest.mark.parametrize("dialect", ["ort-cpu", "openvino", "tensorrt"])
def test_convolutions_said_to_stay_float_are_those_that_onnx_runtime_leaves_float(make, dialect, tmp_path):
    made = quantized(make(), dialect)
    ops = [node.op_type for node in optimized(made, tmp_path).graph.node]
    convs = {node.name for node in made.graph.node if node.op_type == "Conv"}
    said = {finding.node for finding in lint_graph(made, "ort-cpu") if finding.code in FLOAT_CODES} & convs
    left = sum(op in ("Conv", "FusedConv") for op in ops)
    if dialect == "tensorrt":  # int8 activations that several nodes read are left float too, which slow-type says
        assert len(said) <= left
        assert "slow-type" in codes(made, "ort-cpu")
        return
    assert (len(said), len(convs - said)) == (left, ops.count("QLinearConv"))


def float_in_onnx_runtime():
    def bias_scale(net):
        bias = net.stored(np.ones(16, np.int32), SCALES, np.zeros(16, np.int32))
        return net.pair(net.int8_conv(net.pair("input", zero=U8(128)), bias=bias), zero=U8(128))

    def clamp(net):
        return net.pair(net.add("Relu", [net.int8_conv(net.pair("input", zero=U8(128)))]), zero=U8(9))

    def activation(net):
        return net.pair(net.add("Sigmoid", [net.int8_conv(net.pair("input", zero=U8(128)))]), zero=U8(0))

    def nothing(net):
        return net.add("Relu", [net.int8_conv(net.pair("input", zero=U8(128)))])

    def two(net):
        a = net.int8_conv(net.pair("input", zero=U8(128)))
        return net.add("Add", [a, net.pair(a, zero=U8(128))])

    return {
        "bias-scale": [bias_scale], "clamp-zero-point": [clamp], "no-q-behind": [activation, nothing, two],
    }  # fmt: skip


@pytest.mark.parametrize(("code", "build"), [(code, b) for code, all_ in float_in_onnx_runtime().items() for b in all_])
def test_each_reason_of_a_float_convolution_is_true_in_onnx_runtime(code, build, tmp_path):
    net = Paired()
    build(net)
    assert code in codes(net.model(), "ort-cpu")
    ops = {node.op_type for node in optimized(net.model(), tmp_path).graph.node}
    assert "QLinearConv" not in ops
    assert ops & {"Conv", "FusedConv"}


@pytest.mark.parametrize("op", ["HardSigmoid", "HardSwish", "Gelu", "Tanh", "Relu"])
def test_a_node_without_an_integer_kernel_is_an_island(op, tmp_path):
    net = Paired()
    a = net.pair(net.int8_conv(net.pair("input", zero=U8(128))), zero=U8(128))
    net.pair(net.add(op, [a]), zero=U8(7))
    assert op in only(net.model(), "ort-cpu", "float-island").message
    ops = [node.op_type for node in optimized(net.model(), tmp_path).graph.node]
    assert {op, "HardSigmoid"} & set(ops)
    assert ops.count("DequantizeLinear") > 1


def test_types_that_are_slow_on_x86_are_not_noted_on_arm():
    net = Paired()
    integers = np.full((16, 3, 3, 3), 130, U8)
    net.pair(net.int8_conv(net.pair("input"), net.kernel(array=integers, zero=np.full(16, 128, U8))))
    messages = [finding.message for finding in lint_graph(net.model(), "ort-cpu") if finding.code == "slow-type"]
    assert any("stores a constant as uint8" in message for message in messages)
    assert any("writes int8 activations" in message for message in messages)
    assert not [finding for finding in lint_graph(net.model(), "ort-cpu", "arm64") if finding.code == "slow-type"]


def test_wide_weights_break_a_cpu_without_vnni():
    made = quantized(residual_net(), "ort-cpu", dialect_for("ort-cpu", "vnni"))
    assert [f.code for f in lint_graph(made, "ort-cpu", "avx2") if f.breaks] == ["saturation"] * 4
    assert lint_graph(made, "ort-cpu", "vnni") == []


def test_constants_inside_nodes_are_looked_through():
    made = quantized(residual_net(), "tensorrt")
    moved = onnx.ModelProto()
    moved.CopyFrom(made)
    del moved.graph.initializer[:], moved.graph.node[:]
    for tensor in made.graph.initializer:
        moved.graph.node.append(onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
    moved.graph.node.extend(made.graph.node)
    onnx.checker.check_model(moved)
    assert lint_graph(moved, "tensorrt") == []
    assert run(moved, np.zeros((1, 3, 16, 16), np.float32)).shape == (1, 10)


def test_a_target_without_int8_is_named():
    with pytest.raises(BadInput, match=r"unknown int8 target 'torch-eager'; expected one of ort-cpu, ort-trt"):
        lint_graph(residual_net(), "torch-eager")
