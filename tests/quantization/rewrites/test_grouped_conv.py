import numpy as np
import onnx
import onnx_ir as ir
import pytest

from deploykit.quantization.qdq.graph import constant
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.rewrites.grouped_conv import keeps_groups, merge_groups, regrouped
from deploykit.quantization.rewrites.padding import pad_grouped
from tests.quantization.graphs_for_tests import grouped_net, mobile_net, pictures, run


def grouped_shapes(model):
    return [constant(node.inputs[1]).shape[:2] for node in model.graph if node.op_type == "Conv" and keeps_groups(node)]


@pytest.mark.parametrize(
    ("width", "groups", "shape"),
    [
        (8, 13, (112, 16)),  # padded to 14 groups, merged by two
        (8, 16, (128, 32)),
        (4, 32, (128, 32)),
        (16, 13, (208, 16)),
        (24, 4, (96, 24)),
        (40, 2, (80, 40)),
    ],
)
def test_merging_groups_keeps_the_function(width, groups, shape):
    proto = grouped_net(width, groups)
    model = prepare(proto)
    pad_grouped(model.graph)
    assert merge_groups(model.graph) == (shape[1] != width)
    assert grouped_shapes(model) == [shape]
    after = ir.to_proto(model)
    onnx.checker.check_model(after, full_check=True)
    np.testing.assert_allclose(run(after, pictures(3)), run(proto, pictures(3)), rtol=1e-4, atol=1e-5)


def test_few_channels_become_one_dense_convolution():
    proto = grouped_net(8, 6)
    model = prepare(proto)
    assert merge_groups(model.graph) == 1
    assert grouped_shapes(model) == []
    np.testing.assert_allclose(run(ir.to_proto(model), pictures(3)), run(proto, pictures(3)), rtol=1e-4, atol=1e-5)


def test_depthwise_and_float_layers_are_left_alone():
    assert merge_groups(prepare(mobile_net()).graph) == 0
    model = prepare(grouped_net(8, 16))
    name = next(node.name for node in model.graph if node.op_type == "Conv" and keeps_groups(node))
    assert merge_groups(model.graph, keep=frozenset({name})) == 0


def test_channels_whose_groups_padding_would_cut_are_not_padded():
    model = prepare(grouped_net(24, 3))
    assert pad_grouped(model.graph) == 0


@pytest.mark.parametrize(("before", "after"), [((112, 16), (104, 8)), ((104, 8), (112, 16)), ((128, 32), (128, 16))])
def test_weights_of_one_width_are_found_in_another(before, after):
    groups = np.random.default_rng(0).integers(-127, 128, (104, 8, 3, 3)).astype(np.int8)
    first = regrouped(groups, (*before, 3, 3))
    second = regrouped(first, (*after, 3, 3))
    np.testing.assert_array_equal(second, regrouped(groups, (*after, 3, 3)))
    np.testing.assert_array_equal(regrouped(second, groups.shape), groups)
