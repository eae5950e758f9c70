"""The predicted cost of kernels: what a graph is taken for, and what that costs on which instruction set."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from deploykit.base.environment import ISAS
from deploykit.evaluation.graph_runner import Opened
from deploykit.quantization.kernel_cost import ELEMENTWISE, MEASURED, SCALES, cost_us, kernel_us
from deploykit.quantization.kernels import Kernel, kernels
from deploykit.quantization.search import Choice
from tests.quantization.graphs_for_tests import mobile_net, residual_net
from tests.quantization.test_sensitivity import quantizer_of


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    return Opened(Path(tmp_path_factory.mktemp("optimized")), threads=1)


@pytest.mark.parametrize("make", [residual_net, mobile_net])
def test_float_and_int8_are_taken_for_as_many_products(opened, make):
    quantizer = quantizer_of(make())
    float_macs, int8_macs = (
        sum(one.macs for one in kernels(opened.optimized(proto)))
        for proto in (quantizer.proto, quantizer.make(Choice()))
    )
    assert 0 < float_macs <= int8_macs * 1.5  # each pads channels to what its kernels compute at once
    kinds = [one.kind for one in kernels(opened.optimized(quantizer.make(Choice())))]
    assert any(kind.startswith("int8") for kind in kinds)
    assert all(one.elements >= 1 for one in kernels(opened.optimized(quantizer.proto)))


def test_the_table_has_every_isa_and_an_unknown_operator_costs_something():
    assert set(SCALES) == set(ISAS)
    some = Kernel("x", "Strange", elements=1000.0)
    assert kernel_us(some, "vnni") == pytest.approx(ELEMENTWISE[0] + ELEMENTWISE[4])
    assert "Strange" not in MEASURED


def test_integer_products_gain_least_where_they_are_added_in_pairs():
    float_one, int8_one = (Kernel("x", f"{kind} dense", macs=1e8, elements=1e5) for kind in ("f32", "int8"))
    gains = {isa: kernel_us(float_one, isa) / kernel_us(int8_one, isa) for isa in ISAS}
    assert gains["vnni"] > gains["avx512"] > 1
    assert gains["vnni"] > gains["avx2"] > 1


def test_the_cost_of_a_size_that_the_graph_leaves_open_follows_the_image(opened):
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, "h", "w"])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    weight = onnx.numpy_helper.from_array(np.ones((16, 3, 3, 3), np.float32), "weight")
    nodes = [
        helper.make_node("Conv", ["input", "weight"], ["conv"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["conv"], ["turned"], "turned", perm=[0, 2, 3, 1]),
        helper.make_node("ReduceMax", ["turned"], ["out"], "most", keepdims=0),
    ]
    graph = helper.make_graph(nodes, "open", [image], [out], [weight])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    optimized = opened.optimized(proto)
    small, large = (cost_us(optimized, "vnni", (3, size, size)) for size in (32, 128))
    assert large > 5 * small
    assert cost_us(optimized, "vnni") > 0  # nothing known: little, but no error
