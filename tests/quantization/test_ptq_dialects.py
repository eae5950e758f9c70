import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from deploykit.base.artifact import read_manifest
from deploykit.base.errors import AnswerNo, BadInput
from deploykit.commands.quantize import quantize
from deploykit.config.quantize import QuantizeConfig
from deploykit.quantization.lint.lint import lint
from deploykit.quantization.qdq.dialects import dialect_for
from deploykit.quantization.schemes import largest_pair
from tests.quantization.tensorrt_for_tests import engine_bytes

OTHERS = ["tensorrt-rtx", "openvino"]


def options(target, **more):
    fields = {"data": "digits", "images": 32, "select_images": 32, "method": "minmax", "target": target, **more}
    return QuantizeConfig(**fields)


@pytest.fixture(scope="module")
def made(trained_onnx, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dialects")
    return {target: quantize(trained_onnx, folder / f"{target}.onnx", options(target)) for target in OTHERS}


@pytest.mark.parametrize("target", OTHERS)
def test_the_answers_are_checked_and_speed_is_claimed_only_of_an_engine_that_runs_here(made, target):
    facts, runs_here = made[target].facts, target == "openvino"
    assert facts["parity"]["ok"]
    assert facts["parity"]["snr_db"] > 10
    assert (facts["measured"], made[target].measured["speedup"] is not None) == (runs_here, runs_here)
    assert facts["audit"]["int8_convs"] == facts["audit"]["convs"] > 5
    assert not any(note["breaks"] for note in facts["lint"])
    assert facts["choice"]["float_prefix_nodes"] == 0
    assert ("speed not measured here" in made[target].summary()) is not runs_here
    manifest = read_manifest(made[target].output)
    assert (manifest.target, manifest.precision) == (target, "int8")
    json.dumps(made[target].to_dict(), allow_nan=False)


def test_a_second_run_does_nothing(made, trained_onnx):
    again = quantize(trained_onnx, made["tensorrt-rtx"].output, options("tensorrt-rtx"))
    assert again.made is False


def test_tensorrt_rtx_builds_what_the_command_wrote(made):
    assert engine_bytes(onnx.load(made["tensorrt-rtx"].output)) > 10_000


def test_lint_of_the_command_agrees_with_what_quantize_recorded(made):
    result = lint(made["tensorrt-rtx"].output, "tensorrt-rtx")
    assert result.ok
    assert result.to_dict()["findings"] == made["tensorrt-rtx"].facts["lint"]
    other = lint(made["openvino"].output, "tensorrt")
    assert not other.ok
    lines = other.summary().splitlines()
    assert " that break it, " in lines[0]
    assert any("breaks unsigned" in line and "more nodes" in line for line in lines)


def test_a_cpu_without_vnni_gets_weights_that_cannot_overflow_and_others_are_refused(
    trained_onnx, tmp_path, monkeypatch
):
    monkeypatch.setattr("deploykit.base.environment.isa", lambda: "avx2")
    config = options("ort-cpu", force_int8=True)
    narrow = quantize(trained_onnx, tmp_path / "narrow.onnx", config)
    widths = narrow.facts["weight_widths"]
    assert set(widths) == {
        node.name for node in onnx.load(narrow.output).graph.node if node.op_type in ("Conv", "Gemm")
    }
    assert all(7 <= width <= 8 for width in widths.values())
    stored = [onnx.numpy_helper.to_array(t) for t in onnx.load(narrow.output).graph.initializer if t.data_type == 3]
    for array in (array.astype(int) for array in stored if array.ndim == 4):
        assert np.abs(array).max() <= 127
        assert largest_pair(array, 0).max() <= 128
    monkeypatch.setattr(
        "deploykit.quantization.qdq.dialects.dialect_of", lambda *_: replace(dialect_for("ort-cpu"), isa="avx2")
    )
    with pytest.raises(AnswerNo, match=r"ort-cpu would not run this file: breaks saturation: .*no VNNI"):
        quantize(trained_onnx, tmp_path / "wide.onnx", config)
    assert not (tmp_path / "wide.onnx").exists()


@pytest.mark.parametrize(
    ("name", "content", "target", "message"),
    [
        ("gone.onnx", None, "tensorrt", r"gone\.onnx does not exist"),
        ("notes.txt", b"text", "tensorrt", r"notes\.txt is no ONNX file; got \.txt; expected \.onnx"),
        ("cut.onnx", b"\x08\x0aonnx", "tensorrt", r"cut\.onnx is no (readable )?ONNX file"),
        ("cut.onnx", b"\x08\x0aonnx", "ort-cuda", r"int8 for ort-cuda; .*fp16"),
        ("cut.onnx", b"\x08\x0aonnx", "tensort", r"unknown int8 target 'tensort'.*Did you mean 'tensorrt'"),
    ],
)
def test_lint_of_bad_input_is_one_line(tmp_path, name, content, target, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=message):
        lint(tmp_path / name, target)
