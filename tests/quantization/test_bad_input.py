"""What the quantizer does with networks it was not made for: refused in one line, left float, or quantized rightly."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from deploykit.base.errors import BadInput
from deploykit.quantization.calibrate import observe
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.search import Choice, Quantizer
from tests.quantization.graphs_for_tests import Net, opener, ort_cpu, pictures, residual_net, run, snr_db


def quantized(proto, x):
    from deploykit.quantization.calibrate import observed_values

    wide = prepare(proto)
    seen = observe(ir.to_proto(wide), observed_values(wide), [x], opener)
    made = Quantizer(proto, seen, dialect=ort_cpu()).make(Choice(method="minmax"))
    onnx.checker.check_model(made, full_check=True)
    return made


def test_two_inputs_are_refused():
    proto = residual_net()
    proto.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    with pytest.raises(BadInput, match="has 2 inputs; expected one picture input"):
        prepare(proto)


def test_more_than_protobuf_holds_is_refused(monkeypatch):
    monkeypatch.setattr("deploykit.quantization.qdq.prepare.MOST_BYTES", 1000)
    with pytest.raises(BadInput, match=r"big\.onnx is too large to quantize; got .* GB; expected less than"):
        prepare(residual_net(), "big.onnx")


def test_dynamic_height_and_width_stay_dynamic():
    proto = residual_net()
    for axis, name in ((2, "height"), (3, "width")):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    del proto.graph.value_info[:]
    made = quantized(proto, pictures(16))
    for size in (16, 24):
        x = pictures(8, seed=3, size=size)
        assert snr_db(run(proto, x), run(made, x)) > 18


def test_a_shared_weight_is_quantized_for_each_of_its_readers():
    net = Net()
    first = net.conv("input", 3, 16)
    weights = list(net.nodes[-1].input[1:])
    second = net.add("Conv", ["input", *weights], pads=[1] * 4, kernel_shape=[3, 3])
    net.add("Relu", [net.conv(net.add("Add", [net.add("Relu", [first]), second]), 16, 8)])
    proto = net.model()
    x = pictures(8, seed=4)
    assert snr_db(run(proto, x), run(quantized(proto, pictures(16)), x)) > 25


def test_constant_activations_give_finite_answers():
    net = Net()
    dead = net.conv("input", 3, 16)
    for tensor in net.weights:
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros_like(onnx.numpy_helper.to_array(tensor)), tensor.name))
    alive = net.add("Relu", [net.conv("input", 3, 16)])
    net.add("Relu", [net.conv(net.add("Add", [net.add("Relu", [dead]), alive]), 16, 8)])
    proto = net.model()
    x = pictures(8, seed=4)
    assert snr_db(run(proto, x), run(quantized(proto, pictures(16)), x)) > 20  # 25 where the CPU takes 8-bit weights


def test_an_operator_of_another_domain_stays_float():
    proto = residual_net()
    node = next(node for node in proto.graph.node if node.op_type == "Relu")
    node.op_type, node.domain = "QuickGelu", "com.microsoft"
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    made = quantized(proto, pictures(16))
    assert [node.domain for node in made.graph.node if node.op_type == "QuickGelu"] == ["com.microsoft"]
    x = pictures(8, seed=4)
    assert snr_db(run(proto, x), run(made, x)) > 25
