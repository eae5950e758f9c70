"""Training for int8 through the command: the better of both comes out, and is written for any target from one file."""

import json

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from deploykit.base.artifact import read_manifest
from deploykit.base.errors import BadInput
from deploykit.commands.export import export
from deploykit.commands.quantize import quantize
from deploykit.config.quantize import QuantizeConfig
from deploykit.models import load_model, save_model
from tests.listening import Listening

FIELDS = {
    "method": "qat",
    "data": "digits",
    "images": 64,
    "select_images": 64,
    "force_int8": True,
    "weight_bits": 4,
    "qat_epochs": 2,
    "qat_every": 14,
    "qat_lr": 2e-4,
    "qat_shift_px": 1,
}
QAT = QuantizeConfig(**FIELDS)


@pytest.fixture(scope="module")
def sparse_model(trained_model):
    """The trained network with 2:4 masks on one layer, as pruning leaves them."""
    loaded = load_model(trained_model)
    name = next(n for n, p in loaded.module.named_parameters() if p.ndim == 4 and p.shape[1] % 4 == 0)
    weight = loaded.module.get_parameter(name)
    mask = torch.ones_like(weight, dtype=torch.bool)
    mask[:, ::4] = mask[:, 1::4] = False
    with torch.no_grad():
        weight.mul_(mask)
    path = trained_model.with_name("sparse.pt")
    options = {"samples": None, "masks": {name: mask}}
    save_model(path, loaded.module, loaded.arch, loaded.preprocessing, loaded.classes, **options)
    return path, name, mask


@pytest.fixture(scope="module")
def made(sparse_model, tmp_path_factory):
    told = Listening()
    return quantize(sparse_model[0], tmp_path_factory.mktemp("qat") / "m.qat.pt", QAT, progress=told), told


def test_training_beats_calibration_at_four_bits(made):
    result, told = made
    facts = result.facts
    assert facts["won"] == "qat"
    assert facts["top1_select"] == facts["top1_qat"] > facts["top1_ptq"]
    assert facts["agreement"] >= 0.995
    assert facts["layers"] == facts["trained_layers"] > 8
    assert (facts["epochs"], facts["weight_bits"], facts["target"]) == (3, 4, "ort-cpu")
    assert any(line.startswith("training wins on ") for line in told.said)
    assert "training won; top-1 on" in result.summary()
    json.dumps(result.to_dict(), allow_nan=False)


def test_the_file_says_what_it_is(made, sparse_model):
    path = made[0].output
    manifest = read_manifest(path)
    assert (manifest.kind, manifest.stage, manifest.target) == ("model", "quantize", None)
    loaded = load_model(path)
    assert loaded.lineage[-1]["config"]["method"] == "qat"
    assert loaded.ranges["won"] == "qat"
    assert len(loaded.samples["images"]) == 32
    attached = json.loads((path.parent / f"{path.name}.attachments.json").read_text())
    assert {item["title"] for item in attached["items"]} >= {"Training loss", "Top-1 on select"}
    assert not list(path.parent.glob(".*.resume"))


def test_masked_weights_stay_zero(made, sparse_model):
    _, name, mask = sparse_model
    loaded = load_model(made[0].output)
    weight = loaded.module.get_parameter(name)
    assert torch.equal(loaded.masks[name], mask)
    assert not weight[~mask].any()
    assert not torch.equal(weight, load_model(sparse_model[0]).module.get_parameter(name))


@pytest.mark.parametrize("target", ["ort-cpu", "tensorrt", "openvino"])
def test_it_is_written_for_any_target_without_data(made, tmp_path, target):
    out = quantize(made[0].output, tmp_path / "x.onnx", QuantizeConfig(target=target, force_int8=True))
    facts = out.facts
    assert facts["parity"]["reference"] == "trained"
    assert facts["parity"]["top1_agreement"] >= 0.995
    assert facts["audit"]["int8_convs"] == facts["audit"]["convs"] > 5
    assert not any(note["breaks"] for note in facts["lint"])
    assert facts["trained"] == {"target": "ort-cpu", "weight_bits": 4, "won": "qat"}
    assert facts["verified_on"] == "samples"
    assert "ranges of the training for ort-cpu" in out.summary()
    manifest = read_manifest(out.output)
    assert (manifest.target, manifest.precision) == (target, "int8")
    assert [parent.role for parent in manifest.parents] == ["model"]
    weights = [t for t in onnx.load(out.output).graph.initializer if t.name.endswith("weight.q")]
    assert max(np.abs(onnx.numpy_helper.to_array(t).astype(int)).max() for t in weights) == 7
    if target == "openvino":
        again = quantize(made[0].output, out.output, QuantizeConfig(target=target, force_int8=True))
        assert again.made is False


@pytest.mark.slow
def test_the_written_file_is_judged_on_select_where_data_are_named(made, tmp_path):
    config = QuantizeConfig(data="digits", force_int8=True)
    out = quantize(made[0].output, tmp_path / "x.onnx", config)
    assert out.facts["verified_on"] == "data"
    assert out.facts["parity"]["n"] > 100
    assert out.facts["parity"]["top1_agreement"] >= 0.995


def test_a_second_run_does_nothing(made, sparse_model):
    again = quantize(sparse_model[0], made[0].output, QAT)
    assert again.made is False
    assert "nothing done" in again.summary()


class Killed(Listening):
    """Stops the program when it hears of the second round."""

    def say(self, message):
        super().say(message)
        if message.startswith("epoch 2/"):
            raise KeyboardInterrupt


def test_a_killed_run_goes_on_to_the_same_result(made, sparse_model, tmp_path, listening):
    output = tmp_path / "m.qat.pt"
    with pytest.raises(KeyboardInterrupt):
        quantize(sparse_model[0], output, QAT, progress=Killed())
    assert not output.exists()
    quantize(sparse_model[0], output, QAT, progress=listening)
    assert any(line.startswith("going on after epoch 1 of 3") for line in listening.said)
    first, second = (load_model(path) for path in (made[0].output, output))
    assert first.ranges == second.ranges
    for name, tensor in first.module.state_dict().items():
        assert torch.equal(tensor, second.module.state_dict()[name]), name


def test_harmful_training_returns_the_calibrated_model(trained_model, tmp_path):
    config = QAT.but(qat_lr=0.5, qat_epochs=1, qat_every=None, weight_bits=None, qat_freeze=0.0, equalize="off")
    result = quantize(trained_model, tmp_path / "m.qat.pt", config)
    facts = result.facts
    assert facts["won"] == "ptq"
    assert (facts["top1_qat"] or 0) <= facts["top1_ptq"] == facts["top1_select"]  # None: it ran no more
    assert [one["lr"] for one in facts["retries"]][:2] == [0.5, 0.125]  # it fell, and went back
    assert "training did not help" in result.summary()
    before, after = load_model(trained_model), load_model(result.output)
    for name, tensor in before.module.state_dict().items():
        assert torch.equal(tensor, after.module.state_dict()[name]), name
    assert after.ranges["limits"] == {}


@pytest.mark.slow
def test_a_loss_that_becomes_nan_keeps_the_calibrated_model(trained_model, tmp_path, listening):
    config = QAT.but(qat_lr=1e30, qat_epochs=1, qat_every=None)
    facts = quantize(trained_model, tmp_path / "m.qat.pt", config, progress=listening).facts
    assert facts["won"] == "ptq"
    assert "NaN or infinite" in facts["diverged"]
    assert any("the best round before is judged" in line for line in listening.warned)


@pytest.mark.slow
def test_training_starts_from_an_equalized_network_where_that_is_better(trained_model, tmp_path, listening):
    from deploykit.exporting.names import module_of
    from deploykit.quantization.qat.binding import bind, write_back
    from deploykit.quantization.qdq.graph import constant
    from deploykit.quantization.qdq.prepare import prepare
    from tests.quantization.test_equalize import spoil

    loaded = load_model(trained_model)
    proto = onnx.load(export(trained_model, tmp_path / "float.onnx").output)
    bound = bind(prepare(proto).graph, loaded.module, torch.zeros(2, 3, 32, 32), module_of)
    for node in prepare(ir.to_proto(spoil(proto, 3))).graph:
        if node.name in bound:
            write_back(loaded.module, bound[node.name], constant(node.inputs[1]), constant(node.inputs[2]))
    path = tmp_path / "collapsed.pt"
    save_model(path, loaded.module, loaded.arch, loaded.preprocessing, loaded.classes, samples=None)
    fields = {"weight_bits": None, "qat_epochs": 1, "qat_every": None}
    facts = quantize(path, tmp_path / "m.qat.pt", QAT.but(**fields), progress=listening).facts
    assert facts["equalized"] is True
    assert any(line.startswith("training starts from the equalized network") for line in listening.said)
    off = quantize(path, tmp_path / "off.qat.pt", QAT.but(**fields, equalize="off")).facts
    assert off["equalized"] is False
    assert facts["top1_select"] > off["top1_ptq"]
    assert facts["top1_select"] >= facts["top1_float"] - 0.02


def test_changed_weights_are_refused(made, tmp_path):
    loaded = load_model(made[0].output)
    with torch.no_grad():
        loaded.module.fc.bias.add_(0.1)
    path = tmp_path / "changed.pt"
    save_model(path, loaded.module, loaded.arch, loaded.preprocessing, loaded.classes, ranges=loaded.ranges)
    with pytest.raises(BadInput, match=r"changed\.pt holds ranges of other weights"):
        quantize(path, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rounding": "adaround"}, r"holds the ranges that it was trained with: rounding is decided; got adaround"),
        ({"method": "mse"}, r"method is decided; got mse"),
        ({"weight_bits": 8}, r"weight_bits is decided"),
    ],
)
def test_options_of_a_calibration_are_refused(made, tmp_path, fields, message):
    with pytest.raises(BadInput, match=message):
        quantize(made[0].output, tmp_path / "x.onnx", QuantizeConfig(**fields))


def test_bad_input_is_one_line(trained_model, tmp_path, monkeypatch):
    exported = tmp_path / "m.onnx"
    exported.write_bytes(b"\x08\x0aonnx")
    for model, output, fields, message in (
        (exported, None, {}, r"--method qat trains a model file; got m\.onnx"),
        (trained_model, tmp_path / "x.onnx", {}, r"got x\.onnx; expected a name that ends with \.pt"),
        (trained_model, None, {"data": None}, r"needs labelled pictures; expected --data"),
        (trained_model, None, {"qat_teacher": "gone.pt"}, r"gone\.pt"),
    ):
        with pytest.raises(BadInput, match=message):
            quantize(model, output, QAT.but(**fields))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadInput, match=r"runs in one process; got 2 processes"):
        quantize(trained_model, None, QAT)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"qat_epochs": 2}, "qat_epochs belongs to method qat"),
        ({"method": "qat", "rounding": "adaround"}, "rounding does not go with method qat"),
        ({"method": "qat", "synthetic": True}, "synthetic does not go with method qat"),
        ({"method": "qat", "qat_scales": "guessed"}, "qat_scales"),
    ],
)
def test_configurations_that_contradict_themselves(fields, message):
    from deploykit.config.common import build

    with pytest.raises(BadInput, match=message):
        build(QuantizeConfig, fields)


def test_export_of_the_file_is_the_float_network(made, tmp_path):
    out = export(made[0].output, tmp_path / "float.onnx").output
    assert not [node for node in onnx.load(out).graph.node if node.op_type == "QuantizeLinear"]


def test_a_trained_network_that_the_engine_refuses_loses(trained_model, tmp_path, monkeypatch, listening):
    from deploykit.base.errors import AnswerNo
    from deploykit.quantization.qat import select_best as qat_judge

    score, scored = qat_judge._score, []

    def refusing(*arguments):
        scored.append(arguments)
        if len(scored) == 3:  # after the float and the calibrated network
            raise AnswerNo("parameter out of computation range")
        return score(*arguments)

    monkeypatch.setattr(qat_judge, "_score", refusing)
    facts = quantize(trained_model, tmp_path / "m.qat.pt", QAT, progress=listening).facts
    assert (facts["won"], facts["top1_qat"], facts["agreement"]) == ("ptq", None, None)
    assert "the trained network does not run on integers: parameter out of computation range" in listening.warned
