import numpy as np
import onnx
import onnx_ir as ir
import pytest

from deploykit.quantization.calibrate import observe
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.rewrites.depthwise import as_depthwise
from deploykit.quantization.search import Choice, Quantizer
from tests.quantization.graphs_for_tests import Net, opener, optimized_ops, ort_cpu, pictures, run, snr_db


def dense_net(seed=0):
    """Two layers with pre-activation on a growing Concat, a transition with pooling, a last BatchNorm: DenseNet."""
    net = Net(seed=seed)

    def norm(source, channels):
        random = net.random
        numbers = (random.uniform(0.5, 2, channels), random.normal(size=channels) * 0.3,
                   random.normal(size=channels) * 0.3, random.uniform(0.5, 2, channels))  # fmt: skip
        weights = [net.weight(np.asarray(one, np.float32)) for one in numbers]
        return net.add("Relu", [net.add("BatchNormalization", [source, *weights], epsilon=1e-5)])

    features = [net.add("Relu", [net.conv("input", 3, 16)])]
    for number in range(2):
        channels = 16 * (number + 1)
        joined = net.add("Concat", features, axis=1) if number else features[0]
        features.append(net.conv(net.conv(norm(joined, channels), channels, 32, 1), 32, 16))
    out = net.conv(norm(net.add("Concat", features, axis=1), 48), 48, 16, 1)
    out = net.add("AveragePool", [out], kernel_shape=[2, 2], strides=[2, 2])
    net.gemm(net.add("Flatten", [net.add("GlobalAveragePool", [norm(out, 16)])]), 16, 10)
    return net.model()


def test_pooling_moves_before_a_pointwise_convolution_and_keeps_the_function():
    proto = dense_net()
    after = ir.to_proto(prepare(proto))
    onnx.checker.check_model(after, full_check=True)
    ops = [node.op_type for node in after.graph.node]
    assert ops[ops.index("AveragePool") + 1] == "Conv"
    np.testing.assert_allclose(run(after, pictures(3)), run(proto, pictures(3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", [{"pads": [1, 1, 1, 1]}, {"ceil_mode": 1}])
def test_pooling_that_reads_beyond_the_border_stays_behind(padding):
    net = Net()
    out = net.add("AveragePool", [net.conv("input", 3, 8, 1)], kernel_shape=[3, 3], strides=[2, 2], **padding)
    net.add("Relu", [out])
    ops = [node.op_type for node in prepare(net.model()).graph]
    assert ops == ["Conv", "AveragePool", "Relu"]


def test_batch_norm_and_pooling_as_depthwise_convolutions_keep_the_function():
    proto = dense_net()
    model = prepare(proto)
    assert as_depthwise(model.graph) == 4
    after = ir.to_proto(model)
    onnx.checker.check_model(after, full_check=True)
    assert not {"BatchNormalization", "AveragePool"} & {node.op_type for node in after.graph.node}
    np.testing.assert_allclose(run(after, pictures(3)), run(proto, pictures(3)), rtol=1e-4, atol=1e-4)


def test_nodes_to_keep_float_and_padded_averages_are_left_alone():
    model = prepare(dense_net())
    names = frozenset(node.name or "" for node in model.graph)
    assert as_depthwise(model.graph, names) == 0
    net = Net()
    net.add("AveragePool", [net.conv("input", 3, 8)], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    assert as_depthwise(prepare(net.model()).graph) == 0  # averages at the border are of fewer values


def test_a_dense_network_runs_wholly_on_integers(tmp_path):
    from deploykit.quantization.calibrate import observed_values

    proto = dense_net()
    wide = prepare(proto)
    seen = observe(ir.to_proto(wide), observed_values(wide), [pictures(8)], opener)
    made = Quantizer(proto, seen, dialect=ort_cpu()).make(Choice(method="minmax"))
    ops = optimized_ops(made, tmp_path)
    assert not {"Conv", "FusedConv", "BatchNormalization", "QLinearAveragePool"} & set(ops), ops
    x = pictures(8, seed=2)
    assert snr_db(run(proto, x), run(made, x)) > 15
