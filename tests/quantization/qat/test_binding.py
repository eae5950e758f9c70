import copy

import numpy as np
import onnx_ir as ir
import torch

from deploykit.exporting.names import module_of
from deploykit.quantization.qat.binding import bind, folded, write_back
from deploykit.quantization.qdq.graph import constant
from deploykit.quantization.qdq.placement_ort_cpu import ANCHORS
from deploykit.quantization.qdq.prepare import prepare
from tests.quantization.qat_nets import trained_net
from tests.quantization.test_equalize import spoil

EXAMPLE = torch.zeros(2, 3, 32, 32)


def layers(graph):
    return {node.name: node for node in graph if node.op_type in ANCHORS}


def test_folded_tensors_are_the_graphs():
    found = trained_net("mobilenetv2")
    graph = prepare(found.proto).graph
    bound = bind(graph, found.module, EXAMPLE, module_of)
    assert bound.keys() == layers(graph).keys()
    assert sum(one.norm is not None for one in bound.values()) == len(bound) - 1
    for name, node in layers(graph).items():
        weight, bias, _ = folded(found.module, bound[name])
        np.testing.assert_allclose(weight.detach(), constant(node.inputs[1]), atol=1e-5)
        np.testing.assert_allclose(bias.detach(), constant(node.inputs[2]), atol=1e-4)


def test_other_weights_are_not_bound():
    found = trained_net("resnet")
    other = copy.deepcopy(found.module)
    with torch.no_grad():
        other.fc.weight.mul_(1.1)
    graph = prepare(found.proto).graph
    assert layers(graph).keys() - bind(graph, other, EXAMPLE, module_of).keys() == {"fc/Gemm"}


def test_rescaled_channels_are_written_back_and_the_function_stays():
    found = trained_net("resnet")
    net = copy.deepcopy(found.module)
    bound = bind(prepare(found.proto).graph, net, EXAMPLE, module_of)
    spoiled = prepare(ir.to_proto(spoil(found.proto, 3))).graph
    for name, node in layers(spoiled).items():
        write_back(net, bound[name], constant(node.inputs[1]), constant(node.inputs[2]))
    assert bind(spoiled, net, EXAMPLE, module_of).keys() == bound.keys()
    x = torch.from_numpy(found.x[:64])
    with torch.inference_mode():
        before, after = found.module(x), net.eval()(x)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3 * float(before.abs().max()))
    pairs = zip(found.module.parameters(), net.parameters(), strict=True)
    assert any(not torch.allclose(one, other) for one, other in pairs)
