import numpy as np
import onnx
import onnx_ir as ir
import pytest

from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.rewrites.stem import reshape_stem
from tests.quantization.graphs_for_tests import Net, pictures, run


def stem_net(kernel, stride=2, pads=None, size=16):
    net = Net(size=size)
    made = net.conv("input", 3, 8, kernel, stride=stride)
    if pads is not None:
        attribute = next(one for one in net.nodes[-1].attribute if one.name == "pads")
        attribute.ints[:] = pads
    net.add("Relu", [made])
    return net.model()


@pytest.mark.parametrize(
    ("kernel", "stride", "pads"),
    [
        (7, 2, None),
        (3, 2, None),
        (5, 2, None),
        (4, 4, [0, 0, 0, 0]),
        (2, 2, [0, 0, 0, 0]),
        (3, 2, [0, 0, 1, 1]),
        (11, 4, [2, 2, 2, 2]),
        (7, 2, [3, 2, 1, 4]),
    ],
)
def test_folding_a_strided_stem_keeps_the_function(kernel, stride, pads):
    proto = stem_net(kernel, stride, pads)
    model = prepare(proto)
    assert reshape_stem(model.graph)
    after = ir.to_proto(model)
    onnx.checker.check_model(after, full_check=True)
    assert [node.op_type for node in after.graph.node] == ["SpaceToDepth", "Conv", "Relu"]
    np.testing.assert_allclose(run(after, pictures(3)), run(proto, pictures(3)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kernel", "first"), [(7, "Pad"), (3, "Conv")])
def test_where_the_stride_does_not_divide_the_picture_a_large_stem_gets_a_fourth_channel(kernel, first):
    proto = stem_net(kernel, size=15)
    model = prepare(proto)
    assert reshape_stem(model.graph) is (first == "Pad")
    after = ir.to_proto(model)
    onnx.checker.check_model(after, full_check=True)
    assert after.graph.node[0].op_type == first
    x = pictures(3, size=15)
    np.testing.assert_allclose(run(after, x), run(proto, x), rtol=1e-5, atol=1e-5)


def test_a_stem_of_stride_one_or_many_channels_is_left_alone():
    net = Net(channels=8)
    net.add("Relu", [net.conv("input", 8, 8, 3, stride=2)])
    assert not reshape_stem(prepare(net.model()).graph)
    assert not reshape_stem(prepare(stem_net(3, 1)).graph)


def test_a_float_stem_is_left_alone():
    model = prepare(stem_net(7))
    assert not reshape_stem(model.graph, frozenset({model.graph.node(0).name}))
