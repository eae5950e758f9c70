"""Metadata that another tool carried into a file it changed: what the graph holds is believed, and said once."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploykit.base.overrides import Stated
from deploykit.engines import open_runner
from deploykit.engines.onnx_outline import outline_of
from tests.engines.onnx_for_tests import one_node, pair_net, quantized_net, small_net

PREPROCESSING = {"size": [8, 8], "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}


def marked(path: Path, **fields: object) -> Path:
    """The file with ``deploykit.*`` entries: what our own export would have written into it."""
    model = onnx.load(path)
    known = {"version": "1", "precision": "fp32", "preprocessing": PREPROCESSING, **fields}
    for key, value in known.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = f"deploykit.{key}", value if isinstance(value, str) else json.dumps(value)
    onnx.save(model, path)
    return path


def opened(path: Path, **stated):
    with open_runner(f"{path}@ort-cpu", threads=1, stated=Stated(**stated)) as runner:
        return runner


def told(path: Path, **stated) -> list[str]:
    return [note for note in opened(path, **stated).notes if "another tool" in note]


@pytest.mark.parametrize(
    ("make", "said", "precision"),
    [
        (quantized_net, "fp32", "int8"),
        (quantized_net, "int8", "int8"),
        (small_net, "int8", "fp32"),
        (small_net, "fp32", "fp32"),
        (small_net, "fp16", "fp16"),  # an engine may compute in less than it stores
        (lambda path: small_net(path, kind=np.float16), "fp32", "fp16"),
    ],
)
def test_the_graph_says_what_a_file_computes_in(tmp_path: Path, make, said: str, precision: str) -> None:
    path = marked(make(tmp_path / "n.onnx"), precision=said)
    assert opened(path).precision == precision
    found = told(path)
    assert len(found) == (said != precision)
    assert all(said in note and precision in note for note in found)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_a_file_that_states_nothing_is_judged_by_its_graph_without_a_word(tmp_path: Path, kind) -> None:
    path = pair_net(tmp_path / "n.onnx", kind=kind)
    assert opened(path).precision == {np.float16: "fp16", np.float32: "fp32"}[kind]
    assert told(path) == []


def test_size_channels_type_and_classes_of_another_graph_are_not_believed(tmp_path: Path) -> None:
    path = marked(
        small_net(tmp_path / "n.onnx", size=16),
        preprocessing={**PREPROCESSING, "embedded": True},
        classes=["a", "b", "c"],
    )
    runner, notes = opened(path), told(path)
    assert runner.preprocessing.size == (16, 16)
    assert not runner.preprocessing.embedded
    assert runner.preprocessing.mean == (0.5, 0.5, 0.5)
    assert runner.classes is None
    assert len(notes) == 1
    assert all(word in notes[0] for word in ("size [8, 8]", "uint8", "3 classes"))
    gray = marked(small_net(tmp_path / "g.onnx"), preprocessing={"size": [8, 8], "mean": [0.5], "std": [0.2]})
    runner = opened(gray)
    assert (runner.preprocessing.channels, runner.preprocessing.assumed) == (3, True)
    assert "1 channels" in told(gray)[0]


def test_what_fits_is_left_alone(tmp_path: Path) -> None:
    path = marked(small_net(tmp_path / "n.onnx", size="side"), classes=list("abcd"))
    assert told(path) == []
    assert opened(path).classes == tuple("abcd")
    assert opened(path, size=(12, 12)).preprocessing.size == (12, 12)


def test_an_outline_counts_constants_and_subgraphs_and_takes_no_time(tmp_path: Path) -> None:
    big = numpy_helper.from_array(np.zeros((64, 1 << 18), np.float16), "big")
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["o"], value=big)],
        "inner",
        [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT16, None)],
    )
    nodes = [helper.make_node("If", ["yes"], ["out"], then_branch=inner, else_branch=inner)]
    given = helper.make_tensor_value_info("yes", TensorProto.BOOL, [])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT16, None)
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [given], [out])), tmp_path / "if.onnx")
    start = time.perf_counter()
    found = outline_of(tmp_path / "if.onnx")
    assert time.perf_counter() - start < 0.05  # the file has 67 MB
    assert found is not None
    assert found.operators == {"If": 1, "Constant": 2}
    assert found.numbers == {TensorProto.FLOAT16: 2 * (1 << 24)}


def test_an_outline_of_what_is_no_onnx_file_is_none(tmp_path: Path) -> None:
    whole = small_net(tmp_path / "n.onnx").read_bytes()
    cut = tmp_path / "cut.onnx"
    for length in range(1, len(whole), 7):
        cut.write_bytes(whole[:length])
        outline_of(cut)  # never raises, never hangs
    cut.write_bytes(b"")
    assert outline_of(cut) is None
    assert outline_of(tmp_path / "none.onnx") is None
    assert outline_of(one_node(tmp_path / "relu.onnx", "Relu")).precision is None
