from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploykit.base.errors import BadInput
from deploykit.exporting.cast.cast_plan import plan
from deploykit.exporting.cast.formats import FORMATS, Seen, emulated, format_of
from deploykit.exporting.cast.insert_casts import _rounded_up, cast, opened
from tests.exporting.running import run, values_of

FP16, BF16 = FORMATS["fp16"], FORMATS["bf16"]


def graph(nodes, weights, *, opset=20, outputs=("y",), input_type=TensorProto.FLOAT) -> onnx.ModelProto:
    """A checked model of one input ``x`` [batch, 3, 8, 8]."""
    made = helper.make_graph(
        [helper.make_node(op, ins, outs, name=outs[0], **attributes) for op, ins, outs, attributes in nodes],
        "net",
        [helper.make_tensor_value_info("x", input_type, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def weight(seed, *shape, scale=1.0):
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def plain(middle=1.0, back=1.0) -> onnx.ModelProto:
    """Conv–Relu–Conv–pool–Flatten, whose first convolution's values are larger by ``middle``."""
    nodes = [
        ("Conv", ["x", "w1"], ["a"], {}),
        ("Relu", ["a"], ["b"], {}),
        ("Conv", ["b", "w2"], ["c"], {}),
        ("Conv", ["c", "w3"], ["d"], {}),
        ("GlobalAveragePool", ["d"], ["e"], {}),
        ("Flatten", ["e"], ["y"], {}),
    ]
    first, second = weight(0, 4, 3, 3, 3, scale=middle), weight(1, 4, 4, 1, 1, scale=back)
    return graph(nodes, {"w1": first, "w2": second, "w3": weight(2, 5, 4, 1, 1)})


def measured(proto, low, x):
    seen: dict[str, Seen] = {}
    for name, values in values_of(proto, x).items():
        seen.setdefault(name, Seen()).add(values, low, len(x))
    return seen


def made(proto, low=FP16, x=None, *, keep_io=True, keep_float=()):
    x = pictures() if x is None else x
    model = opened(proto, low)
    found = plan(model, measured(proto, low, x), low, keep_float=keep_float)
    import onnx_ir as ir

    result = ir.to_proto(cast(model, found, low, keep_io=keep_io))
    del result.graph.value_info[:]
    onnx.checker.check_model(result, full_check=True)
    return result, found


def pictures(n=4, seed=3):
    return np.random.default_rng(seed).normal(size=(n, 3, 8, 8)).astype(np.float32)


def ops(proto):
    return [node.op_type for node in proto.graph.node]


def kinds(proto):
    return {one.name: one.data_type for one in proto.graph.initializer}


def snr_db(exact, found):
    return 10 * np.log10((exact.astype(np.float64) ** 2).sum() / ((exact.astype(np.float64) - found) ** 2).sum())


def test_a_harmless_net_is_cast_whole_with_one_cast_at_each_end():
    proto = plain()
    result, found = made(proto)
    assert found.why == {}
    assert ops(result).count("Cast") == 2
    assert set(kinds(result).values()) == {TensorProto.FLOAT16}
    x = pictures(8, 5)
    assert 50 < snr_db(run(proto, x), run(emulated(result), x)) < 80


def test_without_keep_io_the_ends_are_16_bit_and_there_is_no_cast():
    result, _ = made(plain(), keep_io=False)
    assert ops(result) == ops(plain())
    assert result.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    assert result.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT16


def test_what_would_overflow_stays_float_with_the_nodes_that_make_and_read_it():
    proto = plain(middle=1e5, back=1e-5)
    result, found = made(proto)
    assert set(found.why) == {"a", "b", "c"}
    assert found.why["b"].startswith("numbers up to ")
    assert ops(result).count("Cast") == 2  # at the input nothing: float reads it; after c, and at the output
    x = pictures(8, 5)
    assert snr_db(run(proto, x), run(emulated(result), x)) > 50


def test_the_naive_converter_breaks_that_net_and_the_cpu_provider_does_not_tell():
    from onnxruntime.transformers.float16 import convert_float_to_float16

    proto, x = plain(middle=1e5, back=1e-5), pictures(8, 5)
    naive = convert_float_to_float16(onnx.ModelProto.FromString(proto.SerializeToString()), keep_io_types=True)
    assert not np.isfinite(run(emulated(naive), x)).all()
    assert np.isfinite(run(naive, x)).all()  # ONNX Runtime's CPU provider computes it in float32
    ours, _ = made(proto)
    assert np.isfinite(run(emulated(ours), x)).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_harmless_net_is_as_near_and_has_as_few_casts_as_the_naive_converters(seed):
    from onnxruntime.transformers.float16 import convert_float_to_float16

    proto, x = plain(middle=2.0**seed), pictures(16, 10 + seed)
    naive = convert_float_to_float16(onnx.ModelProto.FromString(proto.SerializeToString()), keep_io_types=True)
    ours, _ = made(proto)
    assert ops(ours).count("Cast") <= ops(naive).count("Cast")
    exact = run(proto, x)
    assert snr_db(exact, run(emulated(ours), x)) >= snr_db(exact, run(emulated(naive), x)) - 0.5


def test_weights_and_values_below_the_range_stay_float():
    result, found = made(plain(middle=1e-8, back=1e8))
    assert set(found.why) == {"a", "b", "c"}
    assert "weights below the range of fp16" in found.why["a"]
    x = pictures(8, 5)
    assert snr_db(run(plain(middle=1e-8, back=1e8), x), run(emulated(result), x)) > 50
    assert made(plain(middle=1e-8, back=1e8), BF16)[1].why == {}  # bf16 has float32's range


def test_small_values_that_are_only_added_to_large_ones_are_cast():
    nodes = [
        ("Conv", ["x", "w"], ["a"], {}),
        ("Mul", ["a", "tiny"], ["b"], {}),
        ("Add", ["b", "x"], ["y"], {}),
    ]
    proto = graph(nodes, {"w": weight(0, 3, 3, 1, 1), "tiny": np.full((1, 3, 1, 1), 1e-6, np.float32)})
    assert made(proto)[1].why == {}


def test_a_division_by_what_would_become_zero_stays_float():
    nodes = [
        ("Mul", ["x", "x"], ["a"], {}),
        ("Mul", ["a", "s"], ["b"], {}),
        ("Add", ["b", "eps"], ["c"], {}),
        ("Sqrt", ["c"], ["d"], {}),
        ("Div", ["x", "d"], ["y"], {}),
    ]
    proto = graph(nodes, {"s": np.full((1, 3, 1, 1), 2.0**-20, np.float32), "eps": np.float32(1e-12)})
    result, found = made(proto)
    assert {"c", "d"} <= set(found.why)
    assert found.why["c"] == "the constant 1e-12 would be zero"
    x = pictures(8, 5)
    assert snr_db(run(proto, x), run(emulated(result), x)) > 40


def test_an_exponent_that_would_be_rounded_coarsely_stays_float():
    nodes = [("Mul", ["x", "k"], ["a"], {}), ("Softmax", ["a"], ["y"], {"axis": 1})]
    assert made(graph(nodes, {"k": np.float32(1.0)}))[1].why == {}
    found = made(graph(nodes, {"k": np.float32(100.0)}))[1].why
    assert set(found) == {"a", "y"}
    assert found["y"].startswith("an exponent of up to")


def test_a_sum_that_may_overflow_inside_stays_float():
    nodes = [("Mul", ["x", "k"], ["a"], {}), ("ReduceMean", ["a", "axes"], ["y"], {"keepdims": 0})]
    weights = {"k": np.float32(1800.0), "axes": np.asarray([2, 3], np.int64)}
    found = made(graph(nodes, weights))[1].why
    assert list(found) == ["y"]
    assert found["y"].startswith("its sum may reach")
    assert made(graph(nodes, weights | {"k": np.float32(100.0)}))[1].why == {}


def test_asked_for_nodes_and_operators_stay_float():
    result, found = made(plain(), keep_float=("d", "GlobalAveragePool"))
    assert found.why == {"d": "asked for", "e": "asked for"}
    kept = {node.name: list(node.input) for node in result.graph.node}
    assert kinds(result)[kept["d"][1]] == TensorProto.FLOAT


def test_a_node_that_passes_values_on_between_float_nodes_is_not_cast():
    result, found = made(plain(), keep_float=("a", "c"))
    assert found.why["b"] == "between nodes that stay float32"
    assert ops(result).count("Cast") == 2


def test_one_cast_serves_all_readers_and_equal_weights_are_kept_once():
    nodes = [
        ("Conv", ["x", "w1"], ["a"], {}),
        ("Conv", ["a", "w2"], ["b"], {}),
        ("Conv", ["a", "w3"], ["c"], {}),
        ("Add", ["b", "c"], ["y"], {}),
    ]
    same = weight(1, 3, 3, 1, 1)
    proto = graph(nodes, {"w1": weight(0, 3, 3, 1, 1), "w2": same, "w3": same.copy()})
    result, _ = made(proto, keep_float=("a",))
    casts = [node for node in result.graph.node if node.op_type == "Cast"]
    assert len(casts) == 2  # one after a, one at the output
    assert len(result.graph.initializer) == 2


def test_bf16_is_written_in_an_opset_that_has_it():
    result, _ = made(plain(), BF16)
    assert result.opset_import[0].version == 22
    assert set(kinds(result).values()) == {TensorProto.BFLOAT16}
    x = pictures(8, 5)
    assert 35 < snr_db(run(plain(), x), run(emulated(result), x)) < 60


def test_integer_pictures_are_normalised_in_float():
    nodes = [
        ("Cast", ["x"], ["preprocessing/Cast"], {"to": TensorProto.FLOAT}),
        ("Sub", ["preprocessing/Cast", "m"], ["preprocessing/Sub"], {}),
        ("Conv", ["preprocessing/Sub", "w"], ["y"], {}),
    ]
    weights = {"m": np.float32(123.675), "w": weight(0, 4, 3, 1, 1)}
    proto = graph(nodes, weights, input_type=TensorProto.UINT8)
    x = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8)).astype(np.uint8)
    result, found = made(proto, x=x)
    assert set(found.why) == {"preprocessing/Cast", "preprocessing/Sub"}
    assert result.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert snr_db(run(proto, x), run(emulated(result), x)) > 60


def test_scales_of_resize_stay_float_as_onnx_wants():
    nodes = [("Resize", ["x", "", "s"], ["a"], {"mode": "linear"}), ("Relu", ["a"], ["y"], {})]
    result, found = made(graph(nodes, {"s": np.asarray([1, 1, 2, 2], np.float32)}))
    assert found.why == {}
    assert kinds(result)["s"] == TensorProto.FLOAT


def quantized(scale=0.02) -> onnx.ModelProto:
    """Conv with int8 weights per channel and quantized input and output."""
    rows = np.asarray([scale, scale / 3, 3e-6], np.float32)
    integers = np.random.default_rng(0).integers(-127, 128, (3, 3, 3, 3)).astype(np.int8)
    nodes = [
        ("QuantizeLinear", ["x", "sx", "zx"], ["q"], {}),
        ("DequantizeLinear", ["q", "sx", "zx"], ["d"], {}),
        ("DequantizeLinear", ["w", "sw", "zw"], ["dw"], {"axis": 0}),
        ("Conv", ["d", "dw"], ["c"], {}),
        ("Relu", ["c"], ["y"], {}),
    ]
    weights = {"sx": np.float32(0.0312), "zx": np.int8(0), "w": integers, "sw": rows, "zw": np.zeros(3, np.int8)}
    return graph(nodes, weights)


def test_a_quantized_graph_keeps_its_integers_and_gets_16_bit_scales():
    proto = quantized()
    result, found = made(proto)
    assert found.why == {}
    types = kinds(result)
    assert [one for one in types.values() if one == TensorProto.FLOAT] == []
    assert ops(result).count("Cast") == 2
    x = pictures(8, 5)
    exact, ours = run(proto, x), run(emulated(result), x)
    assert snr_db(exact, ours) > 40
    small = slice(2, 3)  # its scale is below fp16's normal range: rounded alone it would be off by a per cent
    assert snr_db(exact[:, small], ours[:, small]) > 25
    assert snr_db(exact[:, small], exact[:, small] * float(np.float16(3e-6)) / 3e-6) < 45


def test_scales_are_rounded_up_to_what_the_format_has():
    scale = np.asarray([1.0, 0.1, 1e-6, 1e-12], np.float32)
    found = _rounded_up(scale, FP16)
    assert np.array_equal(found, found.astype(np.float16).astype(np.float32))
    assert (found >= scale).all()
    assert found[0] == 1
    assert found[3] == np.float32(2.0**-24)


def test_the_emulation_rounds_each_value_once():
    result, _ = made(plain())
    rounded = emulated(result)
    values = values_of(rounded, pictures())
    for name in ("a", "b", "c", "d", "e"):
        assert np.array_equal(values[name], values[name].astype(np.float16).astype(np.float32))
    assert not np.array_equal(values["a/exact"], values["a"])


def test_rounding_facts_are_those_of_the_numbers():
    seen = Seen()
    seen.add(np.asarray([[1.0, -3.0, 1e-9, 0.0]], np.float32), FP16)
    assert (seen.largest, seen.flushed, seen.count) == (3.0, 1, 4)
    seen.add(np.asarray([[1e6]], np.float32), FP16)
    assert seen.snr_db == float("-inf")
    assert Seen().snr_db == float("inf")
    spread = Seen()
    spread.add(np.exp(np.random.default_rng(0).normal(size=100_000)).astype(np.float32), FP16)
    assert abs(spread.snr_db - FP16.nominal_snr_db) < 4


@pytest.mark.parametrize(
    ("proto", "low", "message"),
    [
        (lambda: made(plain())[0], FP16, "is not float32 any more; got float16"),
        (
            lambda: graph([("Conv", ["x", "w"], ["y"], {})], {"w": np.full((1, 3, 1, 1), np.inf, np.float32)}),
            FP16,
            "holds NaN",
        ),
    ],
)
def test_bad_graphs_are_refused(proto, low, message):
    with pytest.raises(BadInput, match=message):
        opened(proto(), low)


def test_an_operator_that_the_format_lacks_stays_float():
    nodes = [("Conv", ["x", "w"], ["a"], {}), ("Shrink", ["a"], ["y"], {})]
    found = made(graph(nodes, {"w": weight(0, 3, 3, 1, 1)}), BF16)[1].why
    assert found == {"y": "ONNX has no bf16 Shrink in opset 22"}


def test_control_flow_is_refused():
    inner = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])], "then", [], [helper.make_tensor_value_info("z", 1, None)]
    )
    nodes = [("If", ["c"], ["y"], {"then_branch": inner, "else_branch": inner})]
    with pytest.raises(BadInput, match="has a If with a graph inside; expected a graph without control flow"):
        opened(graph(nodes, {"c": np.asarray(True)}), FP16)


def test_an_unknown_precision_is_named():
    with pytest.raises(BadInput, match="unknown precision to cast to 'fp8'; expected one of fp16, bf16"):
        format_of("fp8")
