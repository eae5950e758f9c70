import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit.quantization.equalize import equalize, find_links, rescale
from deploykit.quantization.qdq.graph import constant
from deploykit.quantization.qdq.prepare import prepare
from tests.quantization.graphs_for_tests import Net, mobile_net, pictures, residual_net, run

KINDS = ("none", "relu", "relu6", "bounds", "leaky", "pool")


def chain_net(kinds, seed=0, depthwise=(), channels=8):
    """Convolutions with one of ``KINDS`` between each two, then pooling and a classifier."""
    net = Net(seed=seed, size=12)
    into, here = 3, "input"
    for number, kind in enumerate(kinds):
        wide = number in depthwise and into == channels
        here = net.conv(here, into, channels, 3, group=channels if wide else 1)
        into = channels
        here = between(net, kind, here, channels)
    net.gemm(net.add("Flatten", [net.add("GlobalAveragePool", [here])]), channels, 5)
    return net.model()


def between(net, kind, here, channels):
    if kind == "relu":
        return net.add("Relu", [here])
    if kind == "relu6":
        return net.add("Clip", [here, net.weight(np.asarray(0, np.float32)), net.weight(np.asarray(1.5, np.float32))])
    if kind == "bounds":
        high = net.random.uniform(0.3, 4, (channels, 1, 1)).astype(np.float32)
        return net.add("Min", [net.add("Relu", [here]), net.weight(high)])
    if kind == "leaky":
        return net.add("LeakyRelu", [here], alpha=0.1)
    if kind == "pool":
        return net.add("MaxPool", [net.add("Relu", [here])], kernel_shape=[2, 2], strides=[1, 1])
    return here


def assert_same(one, other):
    x = pictures(3, size=12)
    expected = run(one, x)
    onnx.checker.check_model(other, full_check=True)
    np.testing.assert_allclose(run(other, x), expected, rtol=2e-4, atol=2e-5 * np.abs(expected).max() + 1e-6)


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(KINDS), min_size=2, max_size=5),
    st.sets(st.integers(1, 4)),
    st.integers(0, 10**6),
    st.booleans(),
)
def test_the_function_is_kept(kinds, depthwise, seed, split):
    proto = chain_net(kinds, seed, depthwise)
    model = prepare(proto)
    equalize(model, split_clips=split)
    assert_same(proto, ir.to_proto(model))


@settings(max_examples=30)
@given(st.lists(st.sampled_from(KINDS), min_size=2, max_size=4), st.integers(0, 10**6))
def test_any_rescaling_keeps_the_function_and_can_be_prepared_again(kinds, seed):
    proto = chain_net(kinds, seed, {1})
    model = spoil(proto, seed)
    assert_same(proto, ir.to_proto(model))
    again = prepare(ir.to_proto(model))
    equalize(again)
    assert_same(proto, ir.to_proto(again))


def spoil(proto, seed):
    """Rescale every link by 10^U(-1, 1)."""
    model = prepare(proto)
    random = np.random.default_rng(seed)
    for first in [link.first for link in find_links(model.graph)]:
        link = next(link for link in find_links(model.graph) if link.first is first)
        rescale(model.graph, link, 10 ** random.uniform(-1, 1, link.channels))
    return model


def weight_ranges(model):
    """Of each link: ranges of the channels made, and of the same channels read."""
    for link in find_links(model.graph):
        made, read = constant(link.first.inputs[1]), constant(link.second.inputs[1])
        axis = 0 if link.second.op_type == "Conv" and read.shape[1] == 1 else 1
        other = tuple(i for i in range(read.ndim) if i != axis)
        yield np.abs(made).max(axis=(1, 2, 3)), np.abs(read).max(axis=other)


def test_both_ranges_become_equal():
    model = prepare(chain_net(("relu", "relu", "none"), 3, {1}))
    equalize(model)
    for made, read in weight_ranges(model):
        np.testing.assert_allclose(made, read, rtol=2e-2)


def test_relu6_is_left_alone_unless_its_bound_may_be_split():
    proto = chain_net(("relu6", "relu6"), 1)
    kept, split = prepare(proto), prepare(proto)
    assert equalize(kept) == {}
    equalize(split, split_clips=True)
    assert [node.op_type for node in kept.graph].count("Clip") == 2
    assert [node.op_type for node in split.graph].count("Min") == 2


def test_bounds_of_each_channel_become_one_clip_again():
    proto = chain_net(("relu6", "relu6", "relu"), 2, {1})
    spoiled = spoil(proto, 5)
    assert [node.op_type for node in spoiled.graph].count("Min") == 2
    equalize(spoiled)
    assert [node.op_type for node in spoiled.graph].count("Min") == 0
    assert [node.op_type for node in spoiled.graph].count("Clip") == 2
    assert_same(proto, ir.to_proto(spoiled))


@pytest.mark.parametrize(("make", "links"), [(residual_net, 1), (mobile_net, 1)])
def test_sums_and_products_are_no_links(make, links):
    assert len(find_links(prepare(make()).graph)) == links


def test_a_value_that_is_read_twice_is_no_link():
    net = Net()
    a = net.conv("input", 3, 4)
    net.add("Add", [net.conv(a, 4, 4), net.conv(a, 4, 4)])
    assert find_links(prepare(net.model()).graph) == []


def test_a_shared_weight_is_no_link():
    net = Net(channels=4)
    a = net.conv("input", 4, 4)
    weight = net.nodes[0].input[1]
    net.add("Conv", [a, weight], pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    assert find_links(prepare(net.model()).graph) == []


def test_dead_channels_are_left_alone():
    net = Net()
    a = net.conv("input", 3, 4)
    dead = net.random.normal(size=(4, 3, 3, 3)).astype(np.float32)
    dead[1] = 0
    net.weights[0].CopyFrom(onnx.numpy_helper.from_array(dead, "w0"))
    net.conv(net.add("Relu", [a]), 4, 4)
    model = prepare(net.model())
    equalize(model)
    assert np.isfinite(constant(find_links(model.graph)[0].second.inputs[1])).all()
