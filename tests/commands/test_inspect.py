"""What ``inspect`` tells of each kind of file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from deploykit.base.artifact import Manifest, Parent, files_of, manifest_path, write_manifest
from deploykit.base.errors import BadInput
from deploykit.commands.inspect import inspect
from deploykit.models import build
from tests.engines.onnx_for_tests import quantized_net, small_net
from tests.reporting import sample


def _onnx(path: Path, *, weight: np.ndarray | None = None, quantized: bool = False, external: bool = False) -> Path:
    """One 3×3 convolution of 3 → 4 channels on 8 × 8 pixels, pooled, then a 4 → 2 linear layer."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4, 3, 3, 3)).astype(np.float32) if weight is None else weight
    initializers = [numpy_helper.from_array(rng.standard_normal((4, 2)).astype(np.float32), "head")]
    nodes, data, kernel = [], "input", "kernel"
    if quantized:
        initializers += [
            numpy_helper.from_array(np.float32(0.1), "scale"),
            numpy_helper.from_array(np.uint8(0), "zero"),
            numpy_helper.from_array(np.int8(0), "wzero"),
            numpy_helper.from_array(np.clip(weight * 10, -127, 127).astype(np.int8), "kernel"),
        ]
        nodes = [
            helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
            helper.make_node("DequantizeLinear", ["kernel", "scale", "wzero"], ["wdq"]),
        ]
        data, kernel = "dq", "wdq"
    else:
        initializers.append(numpy_helper.from_array(weight, "kernel"))
    nodes += [
        helper.make_node("Conv", [data, kernel], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "head"], ["output"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 2])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(model, {"deploykit.classes": '["cat", "dog"]', "deploykit.precision": "fp32"})
    onnx.save(model, path, save_as_external_data=external, location=path.name + ".data", size_threshold=0)
    return path


def test_own_model(tiny_model: Path) -> None:
    result = inspect(tiny_model, layers=True)
    assert result.kind == "model"
    facts = result.to_dict()
    assert facts["architecture"] == "deploykit:resnet:depth=8,widths=[8, 16, 32],stem_stride=2"
    assert facts["params"] == 19_954
    assert facts["macs"] == sum(layer["macs"] for layer in facts["layers"]) == 809_280
    assert facts["precision"] == {"fp32": 10}
    assert facts["classes"] == list("0123456789")
    assert facts["preprocessing"]["size"] == [32, 32]
    assert facts["lineage"][0]["stage"] == "train"
    assert facts["samples"] == 32
    assert facts["not_finite"] == []
    assert facts["manifest"] == {"state": "none"}
    json.dumps(facts, allow_nan=False)
    text = result.summary()
    assert "layer3.0.conv2" in text
    assert "809,280" in text
    assert "layers" not in inspect(tiny_model).to_dict()


def test_bare_ambiguous_and_unknown_state_dicts(tmp_path: Path) -> None:
    module = build("deploykit:resnet:depth=8,widths=[8, 8, 8]").half()
    torch.save(module.state_dict(), tmp_path / "m.pt")
    facts = inspect(tmp_path / "m.pt").to_dict()
    assert facts["kind"] == "tensors"
    assert "undecided" in facts["architecture"]
    assert "stem_stride=2" in facts["architecture"]
    assert facts["precision"]["fp16"] > 0
    named = inspect(tmp_path / "m.pt", arch="deploykit:resnet:stem_stride=1", size=32).to_dict()
    assert named["precision"] == {"fp16": 10}
    assert named["macs"] > 0
    torch.save({"mine.weight": torch.zeros(2, 3)}, tmp_path / "u.pt")
    unknown = inspect(tmp_path / "u.pt", layers=True)
    assert "no network we know" in unknown.facts["architecture"]
    assert unknown.layers[0]["shape"] == [2, 3]


def test_nan_weights_are_named(tmp_path: Path) -> None:
    module = build("deploykit:cnn4", 3)
    module.features[0].weight.data[0, 0, 0, 0] = float("nan")
    torch.save(module.state_dict(), tmp_path / "n.pt")
    result = inspect(tmp_path / "n.pt")
    assert result.facts["not_finite"] == ["features.0.weight"]
    assert "features.0.weight" in result.summary()


def test_exported_program(tmp_path: Path) -> None:
    program = torch.export.export(build("deploykit:cnn4", 3).eval(), (torch.zeros(1, 3, 32, 32),))
    torch.export.save(program, tmp_path / "m.pt2")
    facts = inspect(tmp_path / "m.pt2").to_dict()
    assert (facts["kind"], facts["num_classes"]) == ("program", 3)
    assert facts["inputs"][0]["shape"] == ["batch", 3, 32, 32]


def test_onnx_counts_shapes_and_precision(tmp_path: Path) -> None:
    result = inspect(_onnx(tmp_path / "m.onnx"), layers=True)
    facts = result.facts
    assert facts["opset"] == {"ai.onnx": 17}
    assert facts["inputs"] == [{"name": "input", "dtype": "float32", "shape": ["batch", 3, 8, 8]}]
    assert facts["params"] == 4 * 27 + 8
    assert facts["macs"] == 4 * 64 * 27 + 8
    assert facts["precision"] == {"fp32": 2}
    assert facts["classes"] == ["cat", "dog"]
    assert [layer["name"] for layer in result.layers] == ["conv", "head"]
    quantized = inspect(_onnx(tmp_path / "q.onnx", quantized=True))
    assert quantized.facts["precision"] == {"int8": 1, "fp32": 1}
    assert quantized.facts["macs"] == facts["macs"]


def test_onnx_with_nan(tmp_path: Path) -> None:
    weight = np.zeros((4, 3, 3, 3), np.float32)
    weight[0, 0, 0, 0] = np.nan
    assert inspect(_onnx(tmp_path / "n.onnx", weight=weight)).facts["not_finite"] == ["kernel"]


def test_onnx_external_data(tmp_path: Path) -> None:
    path = _onnx(tmp_path / "e.onnx", external=True)
    facts = inspect(path).facts
    assert facts["external_data"] == ["e.onnx.data"]
    assert facts["params"] == 4 * 27 + 8
    data = tmp_path / "e.onnx.data"
    content = data.read_bytes()
    data.write_bytes(content[:-100])
    with pytest.raises(BadInput, match=r"e\.onnx\.data, the external data of .* is truncated"):
        inspect(path)
    data.unlink()
    with pytest.raises(BadInput, match=r"needs its external data e\.onnx\.data"):
        inspect(path)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../outside.data"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BadInput, match="outside its folder"):
        inspect(path)


def test_manifest_states(tmp_path: Path) -> None:
    path = _onnx(tmp_path / "m.onnx")
    write_manifest(
        path,
        Manifest(
            "onnx", files_of(path), "export", 1, parents=(Parent("model", "ab" * 32, "model.pt"),), classes=("a",)
        ),
    )
    facts = inspect(path).facts["manifest"]
    assert (facts["state"], facts["stage"], facts["parents"][0]["name"]) == ("unmodified", "export", "model.pt")
    alone = inspect(manifest_path(path))
    assert alone.kind == "manifest"
    assert alone.facts["manifest"]["state"] == "unmodified"
    _onnx(path, quantized=True)
    assert inspect(path).facts["manifest"]["state"] == "modified"
    path.unlink()
    assert inspect(manifest_path(path)).facts["manifest"]["state"] == "missing m.onnx"


def test_artifact_known_by_its_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.blob"
    path.write_bytes(b"something")
    with pytest.raises(BadInput, match=r"cannot tell what .*; got suffix \.blob"):
        inspect(path)
    write_manifest(path, Manifest("engine", files_of(path), "build", 1, target="tensorrt"))
    assert inspect(path).facts["manifest"]["target"] == "tensorrt"


def test_report(tmp_path: Path) -> None:
    report = sample.report()
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    result = inspect(path)
    assert (result.kind, result.facts["format"]) == ("report", "deploykit.report/2")
    first = report["variants"][0]
    assert [result.facts["variants"][0][key] for key in ("name", "target")] == [first["name"], first["target"]]
    assert first["target"] in result.summary()


@pytest.mark.parametrize(
    ("change", "text"),
    [({"schema": "deploykit.report/99"}, "made by a newer deploykit"), ({"seed": "many"}, "seed: got 'many'")],
)
def test_a_report_that_cannot_be_read_is_not_shown_as_one(tmp_path: Path, change: dict, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps({**sample.report(), **change}))
    with pytest.raises(BadInput, match=text):
        inspect(path)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("m.onnx", b"not onnx at all", "no readable ONNX file|has no graph"),
        ("m.onnx", b"", "is empty"),
        ("r.json", b"{", "is no JSON"),
        ("r.json", b'{"schema": "other/1"}', "neither a manifest nor a report; got schema other/1"),
        ("r.json", b"[1]", "neither a manifest nor a report"),
        ("x.md", b"hello", r"cannot tell what .*x\.md is"),
        ("m.pt", b"hello", "it is text"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=text):
        inspect(tmp_path / name)


def test_every_truncation_of_an_onnx_file_is_told(tmp_path: Path) -> None:
    content = _onnx(tmp_path / "m.onnx").read_bytes()
    for share in (0.2, 0.5, 0.9):
        (tmp_path / "cut.onnx").write_bytes(content[: int(len(content) * share)])
        with pytest.raises(BadInput):
            inspect(tmp_path / "cut.onnx")


@pytest.mark.parametrize("target", [None, "openvino"])
def test_the_time_of_each_layer_is_measured_where_it_is_asked_for(tmp_path: Path, target: str | None) -> None:
    if target is not None:
        pytest.importorskip("openvino")
    path = quantized_net(tmp_path / "q.onnx")
    result = inspect(path, times=True, target=target, size=8)
    facts = result.to_dict()
    assert facts["timed_on"]["target"] == (target or "ort-cpu")
    assert sum(row["share"] for row in facts["layers"]) == pytest.approx(1, abs=0.01)
    assert sum(row["time_us"] for row in facts["layers"]) == pytest.approx(facts["layers_us"], abs=1)
    assert "q" in [row["first"] for row in facts["qdq_left"]]
    assert "time_us" in result.summary()
    json.dumps(facts, allow_nan=False)


def test_a_model_file_has_no_layers_to_time(tiny_model: Path) -> None:
    with pytest.raises(BadInput, match=r"torch-eager tells no times of its layers.*deploykit export"):
        inspect(tiny_model, times=True)


def test_where_layers_are_timed_must_be_said_in_full(tmp_path: Path) -> None:
    path = small_net(tmp_path / "any.onnx", size="side")
    with pytest.raises(BadInput, match=r"free sizes; got .*--shape input:1x3x640x640"):
        inspect(path, times=True)
    assert inspect(path, times=True, size=16).layers
    with pytest.raises(BadInput, match=r"say where the layers are timed. Pass --times too"):
        inspect(path, target="openvino")
    with pytest.raises(BadInput, match="threads; got 0; expected at least 1"):
        inspect(path, times=True, threads=0, size=16)


def test_parameters_in_constant_nodes_and_subgraphs_are_counted_and_macs_only_where_they_are_known(
    tmp_path: Path,
) -> None:
    weight = numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "w")
    branch = [
        helper.make_graph(
            [helper.make_node("Add", ["c", f"b{i}"], [f"o{i}"])],
            f"branch{i}",
            [],
            [helper.make_tensor_value_info(f"o{i}", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.full((1, 8, 1, 1), i, np.float32), f"b{i}")],
        )
        for i in range(2)
    ]
    nodes = [
        helper.make_node("Constant", [], ["w"], value=weight),
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("Conv", ["input", "w"], ["c"], "conv"),
        helper.make_node("If", ["yes"], ["output"], then_branch=branch[1], else_branch=branch[0]),
    ]
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [-1, 3, "?", -1])
    out = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    path = tmp_path / "constants.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [given], [out]), ir_version=10), path)
    found = inspect(path)
    assert found.facts["params"] == 8 * 27 + 1 + 16
    assert found.facts["macs"] is None
    assert found.facts["inputs"][0]["shape"] == ["?", 3, "?", "?"]
    assert found.facts["operators"]["Constant"] == 2
    assert inspect(path, shapes={"": (2, 3, 10, 12)}).facts["macs"] == 2 * 8 * 8 * 10 * 27
    assert inspect(path, shapes={"input": (1, 3, 10, 12)}).facts["macs"] == 8 * 8 * 10 * 27
    with pytest.raises(BadInput, match="contradicts"):
        inspect(path, shapes={"input": (1, 3, 10)})
