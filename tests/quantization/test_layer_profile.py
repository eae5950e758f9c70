import json
import re
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from deploykit.engines.onnxruntime.profile import kernel_times
from deploykit.quantization.layer_profile import MOVES, by_layer, compared, in_words, owners
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.search import Choice
from tests.quantization.graphs_for_tests import mobile_net, pictures, residual_net
from tests.quantization.test_sensitivity import quantizer_of


def profiled(proto, folder):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    opened = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for _ in range(3):
        opened.run(None, {"input": pictures(1)})
    return kernel_times(Path(opened.end_profiling()))


@pytest.mark.parametrize("make", [residual_net, mobile_net])
def test_every_kernel_of_both_networks_finds_its_layer(make, tmp_path):
    quantizer, model = quantizer_of(make()), prepare(make())
    layers = {node.name for node in model.graph if node.op_type in ("Conv", "Gemm")}
    owned = owners(model)
    times = [profiled(proto, tmp_path) for proto in (quantizer.proto, quantizer.make(Choice()))]
    for one in times:
        found, rest = by_layer(one, owned)
        assert set(found) == layers
        assert rest == sum(time for (name, op), time in one.items() if op in MOVES)
        assert sum(found.values()) + rest == pytest.approx(sum(one.values()))
    both = compared(model, *times)
    assert both["layers"] == len(layers)
    losses = [one["int8_us"] - one["float_us"] for one in both["slower"]]
    assert all(loss > 0 for loss in losses)
    assert losses == sorted(losses, reverse=True)


def test_layers_that_lose_come_first_and_moves_apart():
    model = prepare(residual_net())
    first = {("conv_0_nchwc", "Conv"): 10.0, ("conv_3", "Conv"): 5.0, ("ReorderOutput", "ReorderOutput"): 1.0}
    second = {
        ("n_conv_0_token_3", "QLinearConv"): 12.0,
        ("n_conv_3", "QLinearConv"): 9.0,
        ("input.q", "QuantizeLinear"): 7.0,
    }
    found = compared(model, first, second)
    assert [one["layer"] for one in found["slower"]] == ["n_conv_3", "n_conv_0"]
    assert found["moves_us"] == {"float": 1.0, "int8": 7.0}
    assert found["total_us"] == {"float": 16.0, "int8": 28.0}


def test_the_first_call_is_left_out_and_other_events_too(tmp_path):
    events = [
        {"cat": "Session", "name": "run", "dur": 9, "args": {}},
        *({"cat": "Node", "name": "a_kernel_time", "dur": d, "args": {"op_name": "Conv"}} for d in (900, 3, 5, 4)),
        {"cat": "Node", "name": "a_fence_before", "dur": 50, "args": {"op_name": "Conv"}},
        {"cat": "Node", "name": "once_kernel_time", "dur": 8, "args": {"op_name": "Relu"}},
    ]
    (tmp_path / "p.json").write_text(json.dumps(events))
    assert kernel_times(tmp_path / "p.json") == {("a", "Conv"): 4.0, ("once", "Relu"): 8.0}


def test_a_name_with_modules_finds_its_layer():
    model = prepare(residual_net())
    for node in model.graph:
        node.name = f"block.0/{node.name}"
    found, rest = by_layer({("block.0/n_conv_3.mul", "QLinearMul"): 1.0, ("elsewhere/x", "Relu"): 2.0}, owners(model))
    assert (found, rest) == ({"block.0/n_conv_3": 1.0}, 2.0)


def test_words_name_the_worst():
    found = {"slower": [{"layer": "a", "float_us": 3.0, "int8_us": 9.5}], "moves_us": {"float": 1.0, "int8": 4.0}}
    assert in_words(found) == "a (3 → 9.5 µs), layout, Q and DQ take 4 µs, in float 1"
    assert re.match("layout", in_words({"slower": [], "moves_us": {"float": np.float64(1), "int8": 2}}))
