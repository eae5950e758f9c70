import re

import onnx
import onnx_ir as ir
import pytest

from deploykit.base.errors import BadInput
from deploykit.commands.quantize import quantize
from deploykit.config.quantize import QuantizeConfig
from deploykit.quantization.max_drop import Held
from deploykit.quantization.qdq.prepare import prepare
from tests.quantization.graphs_for_tests import plant_bad_layer

PLAIN = QuantizeConfig(
    data="digits", images=32, select_images=64, method="minmax", force_int8=True, equalize="off", bias_correction="off",
    keep_float=(),
)  # fmt: skip


@pytest.fixture(scope="module")
def planted(trained_onnx, tmp_path_factory):
    """The tiny network with one convolution that int8 cannot follow, and that convolution's name."""
    folder = tmp_path_factory.mktemp("planted")
    proto = onnx.load(trained_onnx)
    folded = ir.to_proto(prepare(proto))
    readers = {name: node for node in folded.graph.node for name in node.input}
    first = next(node for node in folded.graph.node if node.op_type == "Conv")
    pairs = []
    for node in folded.graph.node:
        relu = readers.get(node.output[0])
        after = readers.get(relu.output[0]) if relu is not None and relu.op_type == "Relu" else None
        used = sum(relu.output[0] in one.input for one in folded.graph.node) if after is not None else 0
        if node.op_type == "Conv" and node is not first and after is not None and after.op_type == "Conv" and used == 1:
            pairs.append((node.name, after.name))
    path = folder / "planted.onnx"
    onnx.save(plant_bad_layer(folded, *pairs[1], decades=6), path)
    return path, pairs[1][1], pairs[1][0]


def test_the_planted_layer_and_what_rounds_its_input_go_back_to_float(planted, tmp_path):
    path, bad, before = planted
    result = quantize(path, tmp_path / "held.onnx", PLAIN.model_copy(update={"max_drop": 0.5}))
    held = result.facts["max_drop"]
    assert held["tried"][0][1] > 5
    assert held["drop_pt"] <= 0.5
    assert [one["layer"] for one in held["reverted"]] == [bad]
    assert set(held["reverted"][0]["nodes"]) == {bad, before}
    assert held["drop_pt_low"] <= held["drop_pt"] <= held["drop_pt_high"]
    assert held["drop_pt_high"] > 0.5  # so few images exclude no half point
    assert (result.status, result.exit_code) == ("unsure", 3)
    assert "which may be more than the 0.5 allowed" in result.summary()
    assert "more images, or take it as it is by --accept" in result.summary()
    accepting = PLAIN.model_copy(update={"max_drop": 0.5, "accept": True})
    accepted = quantize(path, tmp_path / "held.onnx", accepting)
    assert (accepted.made, accepted.exit_code) == (False, 0)
    assert "--accept" not in accepted.summary()
    left = result.facts["audit"]["float_convs"]
    assert len(left) == 2
    assert "pt on select with 1 layers reverted" in result.summary()


def test_without_the_bound_the_planted_layer_breaks_the_network(planted, tmp_path):
    broken = quantize(planted[0], tmp_path / "broken.onnx", PLAIN)
    assert (broken.status, broken.exit_code) == ("failed", 1)
    assert broken.output.is_file()


def test_within_the_bound_nothing_is_reverted(trained_model, tmp_path):
    result = quantize(trained_model, tmp_path / "fine.onnx", PLAIN.model_copy(update={"max_drop": 3.0}))
    held = result.facts["max_drop"]
    assert held["reverted"] == []
    assert held["drop_pt"] <= 3.0
    assert result.facts["audit"]["float_convs"] == []


def test_labels_are_needed_before_anything_is_run(trained_model, image_folder, tmp_path, monkeypatch):
    flat = tmp_path / "flat"
    flat.mkdir()
    for index, image in enumerate(sorted(image_folder.rglob("*.png"))):
        image.rename(flat / f"{index}.png")
    monkeypatch.setattr("deploykit.quantization.int8_file.quantize_file", None)
    given = {"max_drop": 1.0, "images": 8, "method": "minmax", "force_int8": True}
    with pytest.raises(BadInput, match=r"--max-drop needs labels; got synthetic images.*--data"):
        quantize(trained_model, tmp_path / "x.onnx", QuantizeConfig(synthetic=True, **given))
    with pytest.raises(BadInput, match="flat has no labels, which --max-drop needs"):
        quantize(trained_model, tmp_path / "x.onnx", QuantizeConfig(data=str(flat), **given))
    assert not list(tmp_path.glob("x*"))


def test_a_bound_that_cannot_be_held_names_what_stands_in_the_way(planted, tmp_path, monkeypatch, listening):
    drop = {"drop_pt": 5.0, "drop_pt_low": 3.0, "drop_pt_high": 7.0}
    monkeypatch.setattr(Held, "_drop", lambda self, made: drop)
    wanted = r"within 0.5 points of float: the best of \d+ drops 5.00 pt \(3.00 … 7.00\) with 0 layers.*the way stand "
    made = quantize(planted[0], tmp_path / "x.onnx", PLAIN.model_copy(update={"max_drop": 0.5}), progress=listening)
    assert any(re.search(wanted + planted[1], line) for line in listening.warned)
    assert (made.status, made.exit_code) == ("failed", 1)
    assert "accuracy drops by 5.00 points" in "; ".join(made.facts["verdict"]["reasons"])
    assert made.output.is_file()
