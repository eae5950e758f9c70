"""Graphs of any inputs: what is made for them, what they refuse, and that the engines agree on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploykit.base.errors import BadInput, DeploykitError
from deploykit.base.overrides import Stated
from deploykit.base.runner import Profiled, bound_call
from deploykit.base.tensor_spec import TensorSpec
from deploykit.config.texts import shapes as parsed
from deploykit.engines import open_runner
from deploykit.engines.random_input import input_shapes, random_input, rows_of
from tests.engines.onnx_for_tests import pair_net, small_net

NAMED = {"right": (2, 3, 5, 12)}
TARGETS = ("ort-cpu", "openvino")


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    if request.param == "openvino":
        pytest.importorskip("openvino")
    return str(request.param)


def test_a_graph_of_four_unlike_inputs_runs_is_bound_and_told_layer_by_layer(tmp_path: Path, target: str) -> None:
    path = pair_net(tmp_path / "pair.onnx")
    with open_runner(path, threads=1) as plain, open_runner(f"{path}@{target}", threads=1) as runner:
        shapes = input_shapes(runner, NAMED, 2)
        assert input_shapes(runner, NAMED) == shapes  # both are of one batch
        assert shapes == {"left": (2, 3, 8, 8), "right": (2, 3, 5, 12), "mask": (2, 1), "row": (2,)}
        assert rows_of(shapes) == 2
        seen = []
        for seed in (0, 1, 0):
            x = random_input(runner.inputs, shapes, seed)
            given, expected = runner.run_all(x), plain.run_all(x)
            np.testing.assert_allclose(given["score"], expected["score"], rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(given["label"], expected["label"])
            seen.append(given["score"])
        np.testing.assert_array_equal(seen[0], seen[2])
        assert not np.array_equal(seen[0], seen[1])
        bound_call(runner, x)()
        other = random_input(runner.inputs, input_shapes(runner, {"right": (3, 3, 9, 12)}, 3))
        assert runner(other).shape == (3, 4)  # another shape is bound beside the first
        assert runner(x).shape == (2, 4)
        assert isinstance(runner, Profiled)
        done = {node for row in runner.timed_layers(x) for node in row["nodes"]}
        assert {"left_conv", "right_conv"} <= done


@pytest.mark.parametrize("x", [{}, {"left": np.zeros((1, 3, 8, 8), np.float32)}, np.zeros((1, 3, 8, 8), np.float32)])
def test_an_engine_refuses_inputs_that_are_not_all_of_its_own(tmp_path: Path, target: str, x: object) -> None:
    with open_runner(f"{pair_net(tmp_path / 'pair.onnx')}@{target}", threads=1) as runner:
        with pytest.raises(BadInput, match="inputs") as caught:
            runner.run_all(x)  # type: ignore[arg-type]
        assert all(name in str(caught.value.expected) for name in ("left", "right", "mask", "row"))


def test_each_input_of_several_keeps_its_type_and_sizes(tmp_path: Path, target: str) -> None:
    with open_runner(f"{pair_net(tmp_path / 'pair.onnx')}@{target}", threads=1) as runner:
        x = random_input(runner.inputs, input_shapes(runner, NAMED, 2))
        for name, wrong in (("row", x["row"].astype(np.int32)), ("left", x["left"][:, :, :4]), ("mask", [True, True])):
            with pytest.raises(BadInput, match=name):
                runner.run_all({**x, name: wrong})  # type: ignore[dict-item]


def test_numbers_suit_their_types() -> None:
    kinds = ("float32", "float16", "float64", "uint8", "int64", "int32", "bool", "int8")
    specs = [TensorSpec(kind, kind, ("n", 50)) for kind in kinds]
    made = random_input(specs, dict.fromkeys(kinds, (20, 50)), 3)
    assert {name: one.dtype.name for name, one in made.items()} == {kind: kind for kind in kinds}
    for kind in ("float32", "float16", "float64"):
        assert 0 <= made[kind].min() < 0.1 < 0.9 < made[kind].max() <= 1
    assert made["uint8"].max() > 200
    for kind in ("int64", "int32", "bool", "int8"):
        assert set(np.unique(made[kind]).tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({}, ["right", "--shape right:1x3x640x12"]),
        ({"right": (1, 3, 5)}, ["contradicts", "right"]),
        ({"right": (1, 3, 5, 13)}, ["contradicts", "[1, 3, 5, 13]"]),
        ({"rihgt": (1, 3, 5, 12)}, ["rihgt", "right"]),
        ({"": (1, 3, 5, 12)}, ["--shape", "which input"]),
    ],
)
def test_a_free_size_is_asked_for_and_a_contradiction_refused(tmp_path: Path, named, words: list[str]) -> None:
    with open_runner(pair_net(tmp_path / "pair.onnx"), threads=1) as runner:
        with pytest.raises(BadInput) as caught:
            input_shapes(runner, named)
        assert all(word in caught.value.line() for word in words)


def test_an_only_input_needs_no_name_and_may_state_its_batch(tmp_path: Path) -> None:
    with open_runner(small_net(tmp_path / "n.onnx", size="side"), threads=1) as runner:
        assert input_shapes(runner, {"": (4, 3, 9, 7)}, 1) == {"input": (4, 3, 9, 7)}
    with open_runner(small_net(tmp_path / "n.onnx", size="side"), threads=1, stated=Stated((9, 9))) as runner:
        assert input_shapes(runner, {}, 2) == {"input": (2, 3, 9, 9)}
    with open_runner(small_net(tmp_path / "n.onnx", batch=4), threads=1) as runner:
        assert input_shapes(runner, {}, 2) == {"input": (4, 3, 8, 8)}


def test_shapes_are_read_from_the_command_line() -> None:
    assert parsed(["images:1x3x640x640", "input:0:4", "2x3"], "--shape") == {
        "images": [1, 3, 640, 640],
        "input:0": [4],
        "": [2, 3],
    }
    for wrong in ("images", "images:", "images:1x0x3", "images:1x-1", "a:1,3", "a:1x", "a: 1x3"):
        with pytest.raises(DeploykitError, match="--shape"):
            parsed([wrong], "--shape")
    with pytest.raises(DeploykitError, match="twice"):
        parsed(["a:1", "a:2"], "--shape")
