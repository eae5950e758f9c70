import numpy as np
import onnx
import onnx_ir as ir
import pytest

from deploykit.base.errors import BadInput
from deploykit.quantization.qdq.graph import narrow_points
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.rewrites.padding import pad_grouped
from tests.quantization.graphs_for_tests import Net, mobile_net, pictures, residual_net, run


@pytest.mark.parametrize("make", [residual_net, mobile_net])
def test_preparing_keeps_the_function(make):
    proto = make()
    prepared = ir.to_proto(prepare(proto))
    onnx.checker.check_model(prepared)
    x = pictures(3)
    np.testing.assert_allclose(run(prepared, x), run(proto, x), rtol=1e-4, atol=1e-5)


def test_batch_norm_behind_a_convolution_is_folded():
    net = Net()
    a = net.conv("input", 3, 8)
    numbers = [net.weight(net.random.uniform(0.5, 2, 8).astype(np.float32)) for _ in range(4)]
    net.add("Relu", [net.add("BatchNormalization", [a, *numbers], epsilon=1e-3)])
    proto = net.model()
    prepared = ir.to_proto(prepare(proto))
    assert [node.op_type for node in prepared.graph.node] == ["Conv", "Relu"]
    np.testing.assert_allclose(run(prepared, pictures(2)), run(proto, pictures(2)), rtol=1e-4, atol=1e-5)


def test_two_batch_norms_behind_each_other_are_folded_without_node_names():
    net = Net()
    a = "input"
    for into in (3, 8):
        a = net.conv(a, into, 8)
        for _ in range(2):
            numbers = [net.weight(net.random.uniform(0.5, 2, 8).astype(np.float32)) for _ in range(4)]
            a = net.add("BatchNormalization", [a, *numbers])
    for node in net.nodes:
        node.name = ""
    proto = net.model()
    prepared = ir.to_proto(prepare(proto))
    assert [node.op_type for node in prepared.graph.node] == ["Conv", "Conv"]
    np.testing.assert_allclose(run(prepared, pictures(2)), run(proto, pictures(2)), rtol=1e-4, atol=1e-5)


def test_pooling_of_the_dynamo_exporter_becomes_global_average_pool():
    ops = [node.op_type for node in prepare(residual_net()).graph]
    assert "ReduceMean" not in ops
    assert "GlobalAveragePool" in ops


def test_names_are_unique():
    names = [node.name for node in prepare(mobile_net()).graph]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("width", [24, 16, 40])
def test_padding_depthwise_channels_keeps_the_function(width, dynamo):
    proto = mobile_net(width=width, dynamo=dynamo)
    model = prepare(proto)
    padded = pad_grouped(model.graph)
    assert padded == (0 if width % 16 == 0 else 1)
    after = ir.to_proto(model)
    onnx.checker.check_model(after, full_check=True)
    assert all(
        {a.name: a.i for a in node.attribute}.get("group", 1) % 16 in (0, 1)
        for node in after.graph.node
        if node.op_type == "Conv"
    )
    np.testing.assert_allclose(run(after, pictures(3)), run(proto, pictures(3)), rtol=1e-4, atol=1e-5)


def test_padding_leaves_float_regions_alone():
    model = prepare(mobile_net())
    depthwise = next(node for node in model.graph if node.op_type == "Conv" and node.attributes["group"].value > 1)
    assert pad_grouped(model.graph, keep=frozenset({depthwise.name})) == 0


def test_narrow_points_are_where_one_value_carries_all():
    points = narrow_points(prepare(residual_net()).graph)
    assert [node.op_type for node, _ in points][:3] == ["Conv", "Relu", "MaxPool"]
    assert "Add" in [node.op_type for node, _ in points]
    inside = points[3][1] - points[2][1]
    assert len(inside) > 1  # nothing between the two ends of the residual block


def test_already_quantized_is_refused():
    net = Net()
    scale, zero = net.weight(np.asarray(0.1, np.float32)), net.weight(np.asarray(0, np.uint8))
    q = net.add("QuantizeLinear", ["input", scale, zero])
    net.add("DequantizeLinear", [q, scale, zero])
    with pytest.raises(BadInput, match="already quantized; got DequantizeLinear, QuantizeLinear"):
        prepare(net.model())


def test_nan_weights_are_named():
    proto = residual_net()
    broken = onnx.numpy_helper.to_array(proto.graph.initializer[0]).copy()
    broken.flat[0] = np.nan
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(broken, proto.graph.initializer[0].name))
    with pytest.raises(BadInput, match="weight 'w0' holds NaN or infinity"):
        prepare(proto)


def test_an_old_opset_is_refused():
    proto = residual_net()
    proto.opset_import[0].version = 11
    with pytest.raises(BadInput, match="old opset; got 11; expected 13 or newer"):
        prepare(proto)
