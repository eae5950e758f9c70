"""``verify`` without data: any two graphs of the same inputs, on random input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploykit.base.errors import BadInput
from deploykit.commands.verify import verify
from tests.engines.onnx_for_tests import counting_net, pair_net, save, small_net

NAMED = {"right": (2, 3, 5, 12)}


def changed(path: Path, copy: Path, rename: dict[str, str] | None = None, scale: float = 1.0) -> Path:
    """A copy whose last weights are other ones, or whose tensors are called otherwise."""
    model = onnx.load(path)
    weight = next(one for one in model.graph.initializer if one.name == "fw")
    weight.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(weight) * scale).astype(np.float32), "fw"))
    for part in (*model.graph.node, model.graph):
        for one in (*part.input, *part.output):
            if not isinstance(one, str) and one.name in (rename or {}):
                one.name = (rename or {})[one.name]
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [(rename or {}).get(one, one) for one in names]
    onnx.save(model, copy)
    return copy


def test_graphs_of_several_inputs_and_outputs_are_compared(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = pair_net(tmp_path / "pair.onnx")
    found = verify(path, f"{path}@openvino", shapes=NAMED)
    assert (found.status, found.verified_on, found.verdict.split) == ("ok", "random", "random input")
    assert [one.batch for one in found.parity.by_batch] == [2]
    assert found.parity.n == 16
    assert "16 rows of random input" in found.summary()


def test_a_wrong_weight_is_found_and_half_precision_is_held_to_its_own_budget(tmp_path: Path) -> None:
    path = pair_net(tmp_path / "pair.onnx")
    wrong = verify(path, changed(path, tmp_path / "w.onnx", scale=1.01), shapes=NAMED)
    assert (wrong.status, wrong.ok) == ("failed", False)
    assert 35 < wrong.parity.snr_db < 45
    half = verify(path, pair_net(tmp_path / "half.onnx", kind=np.float16), shapes=NAMED)
    assert (half.status, half.parity.precision) == ("ok", "fp16")


def test_inputs_of_other_names_are_given_the_same_numbers_in_order(tmp_path: Path) -> None:
    path = pair_net(tmp_path / "pair.onnx")
    other = changed(path, tmp_path / "o.onnx", {"left": "one", "right": "two", "score": "result"})
    assert verify(path, other, shapes={"two": (2, 3, 5, 12)}).parity.identical


def test_batch_sizes_are_run_where_the_graph_is_free(tmp_path: Path) -> None:
    path = pair_net(tmp_path / "pair.onnx")
    model = onnx.load(path)
    model.graph.input[1].type.tensor_type.shape.dim[2].dim_value = 5
    onnx.save(model, path)
    assert [one.batch for one in verify(path, path).parity.by_batch] == [1, 2, 8]


def test_outputs_without_rows_are_compared_whole_and_integers_by_their_share(tmp_path: Path) -> None:
    path = counting_net(tmp_path / "places.onnx")
    found = verify(path, path, shapes={"input": (1, 3, 8, 8)})
    assert found.parity.identical
    assert found.parity.n == 8


def test_zero_answers_to_noise_settle_nothing(tmp_path: Path) -> None:
    def net(name: str, least: float) -> Path:
        nodes = [
            helper.make_node("ReduceMean", ["input"], ["m"], "mean", axes=[1, 2], keepdims=0),
            helper.make_node("Sub", ["m", "high"], ["s"], "sub"),
            helper.make_node("Clip", ["s", "least"], ["output"], "clip"),
        ]
        weights = [
            numpy_helper.from_array(np.float32(9), "high"),
            numpy_helper.from_array(np.float32(least), "least"),
        ]
        given, out = ("input", TensorProto.FLOAT, ["n", 4, 5]), ("output", TensorProto.FLOAT, ["n"])
        path = save(tmp_path / name, nodes, weights, given, out)
        model = onnx.load(path)
        model.opset_import[0].version = 17
        onnx.save(model, path)
        return path

    found = verify(net("zero.onnx", 0.0), net("tiny.onnx", 1e-9))
    assert found.status == "unsure"
    assert "zero" in found.verdict.reasons[0]
    assert verify(net("one.onnx", 1.0), net("tiny.onnx", 1e-9)).status == "failed"


def test_int8_that_parts_on_noise_is_unsure_unless_a_bar_is_set_by_hand(tmp_path: Path) -> None:
    path = pair_net(tmp_path / "pair.onnx")
    rough = changed(path, tmp_path / "r.onnx", scale=3.0)
    found = verify(path, rough, shapes=NAMED, precision="int8")
    assert found.status == "unsure"
    assert verify(path, rough, shapes=NAMED, precision="int8", min_snr_db=10.0).status == "failed"
    assert verify(path, rough, shapes=NAMED, precision="int8", accept=True).ok


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "--shape right:1x3x640x12"),
        ({"shapes": NAMED, "data": "digits"}, "--shape"),
        ({"shapes": NAMED, "require_real": True}, "--require-real"),
        ({"shapes": NAMED, "bisect": True}, "--bisect"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, fields, words: str) -> None:
    path = pair_net(tmp_path / "pair.onnx")
    with pytest.raises(BadInput) as caught:
        verify(path, path, **fields)
    assert words in caught.value.line()


def test_unlike_graphs_are_told_apart(tmp_path: Path) -> None:
    pair, net = pair_net(tmp_path / "pair.onnx"), small_net(tmp_path / "n.onnx")
    with pytest.raises(BadInput, match="different inputs"):
        verify(net, pair, shapes=NAMED)
    with pytest.raises(BadInput, match="another shape"):
        verify(net, counting_net(tmp_path / "p.onnx"), shapes={"input": (1, 3, 8, 8)})


def test_scalars_loops_and_external_data_are_run(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["acc", "step"], ["acc2"]), helper.make_node("Identity", ["go"], ["go2"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("acc", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("acc2", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("Add", ["x", "w"], ["y"], "add"),
        helper.make_node("Loop", ["times", "", "y"], ["output"], "loop", body=body),
    ]
    inputs = [("x", TensorProto.FLOAT, [2, 4]), ("step", TensorProto.FLOAT, []), ("times", TensorProto.INT64, [])]
    graph = helper.make_graph(
        nodes,
        "loop",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [2, 4])],
        [numpy_helper.from_array(np.ones((2, 4), np.float32), "w")],
    )
    path = tmp_path / "loop.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=True, location="loop.data", size_threshold=0)
    assert verify(path, path).status == "ok"
    (tmp_path / "loop.data").unlink()
    with pytest.raises(BadInput, match="external data"):
        verify(path, path)


@pytest.mark.parametrize(
    ("kind", "words"), [(TensorProto.STRING, "tensor(string)"), (TensorProto.BFLOAT16, "tensor(bfloat16)")]
)
def test_inputs_that_are_no_numbers_are_refused_by_name(tmp_path: Path, kind: int, words: str) -> None:
    nodes = [helper.make_node("Identity", ["odd"], ["output"], "same")]
    path = save(tmp_path / "odd.onnx", nodes, [], ("odd", kind, [1]), ("output", kind, [1]))
    with pytest.raises(BadInput) as caught:
        verify(path, path)
    assert "odd" in caught.value.line()
    assert words in caught.value.line()
