import numpy as np
import onnx
import onnx_ir as ir
import pytest

from deploykit.quantization.calibrate import observe
from deploykit.quantization.rewrites.se_gates import spread_gates
from deploykit.quantization.search import Choice, Quantizer, planned
from tests.quantization.graphs_for_tests import Net, opener, optimized_ops, ort_cpu, pictures, run


def gated_net(size):
    """Squeeze-and-excite on pictures of ``size`` by ``size``."""
    net = Net(size=size)
    a = net.add("Relu", [net.conv("input", 3, 16)])
    s = net.add("Sigmoid", [net.conv(net.add("GlobalAveragePool", [a]), 16, 16, 1)])
    b = net.add("Relu", [net.conv(net.add("Mul", [a, s]), 16, 16, 1)])
    net.gemm(net.add("Flatten", [net.add("GlobalAveragePool", [b])]), 16, 10)
    return net.model()


def quantized(proto, size, monkeypatch=None):
    model, plan = planned(proto, Choice(method="minmax"))
    x = pictures(16, size=size)
    seen = observe(ir.to_proto(model), list(plan.points), np.array_split(x, 4), opener)
    if monkeypatch is not None:
        monkeypatch.setattr("deploykit.quantization.search.spread_gates", lambda graph: 0)
    made = Quantizer(proto, seen, dialect=ort_cpu()).make(Choice(method="minmax"))
    onnx.checker.check_model(made, full_check=True)
    return made


@pytest.mark.parametrize(("size", "spread"), [(32, True), (16, False)])
def test_gates_of_large_pictures_are_spread_and_nothing_else_changes(size, spread, tmp_path, monkeypatch):
    proto, x = gated_net(size), pictures(3, size=size)
    made = quantized(proto, size)
    assert ("Tile" in optimized_ops(made, tmp_path)) is spread
    assert optimized_ops(made, tmp_path).count("QLinearMul") == 1
    plain = quantized(proto, size, monkeypatch)
    assert "Tile" not in optimized_ops(plain, tmp_path)
    np.testing.assert_array_equal(run(made, x), run(plain, x))


def test_float_gates_are_left_alone():
    model, _ = planned(gated_net(32), Choice())
    assert spread_gates(model.graph) == 0
