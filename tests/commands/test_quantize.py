from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from deploykit.base.artifact import read_manifest
from deploykit.base.errors import AnswerNo, BadInput
from deploykit.commands.quantize import quantize
from deploykit.config.quantize import QuantizeConfig

QUICK = QuantizeConfig(data="digits", images=32, select_images=32, method="minmax", force_int8=True)


@pytest.fixture(scope="module")
def tiny_model(trained_model):
    return trained_model


@pytest.fixture(scope="module")
def made(tiny_model, tmp_path_factory):
    output = tmp_path_factory.mktemp("int8") / "tiny.int8.onnx"
    return quantize(tiny_model, output, QUICK)


def test_every_convolution_is_int8_and_agrees_with_float(made):
    audit, parity = made.facts["audit"], made.facts["parity"]
    assert audit["int8_convs"] == audit["convs"] > 5
    assert audit["float_convs"] == []
    assert parity["ok"]
    assert parity["snr_db"] > 15
    assert [one["batch"] for one in parity["by_batch"]] == [1, 2, 8]


def test_the_file_knows_what_it_is(made, tiny_model):
    manifest = read_manifest(made.output)
    assert (manifest.kind, manifest.precision, manifest.target) == ("onnx", "int8", "ort-cpu")
    assert [parent.role for parent in manifest.parents] == ["model", "data"]
    assert manifest.classes == tuple("0123456789")
    assert manifest.facts["calibrated_on"] == "digits"
    props = {entry.key: entry.value for entry in onnx.load(made.output).metadata_props}
    assert props["deploykit.precision"] == "int8"
    assert "deploykit.preprocessing" in props


def test_weights_are_int8_in_the_file(made, tiny_model):
    proto = onnx.load(made.output)
    sizes = {}
    for tensor in proto.graph.initializer:
        sizes[tensor.data_type] = sizes.get(tensor.data_type, 0) + len(tensor.raw_data)
    assert sizes[onnx.TensorProto.INT8] > 0.6 * sum(sizes.values())


def test_a_second_run_does_nothing(made, tiny_model):
    again = quantize(tiny_model, made.output, QUICK)
    assert again.made is False
    assert "nothing done" in again.summary()


def test_it_is_judged_on_what_calibration_did_not_see_and_every_command_says_the_same(made, tiny_model, tmp_path):
    from deploykit.commands.evaluate import evaluate
    from deploykit.commands.export import export
    from deploykit.commands.verify import verify

    verdict = made.facts["verdict"]
    assert (made.status, made.exit_code, verdict["status"], verdict["split"]) == ("ok", 0, "ok", "train")
    assert 30 <= verdict["confident"]["n"] <= verdict["images"] == verdict["agreement"]["n"]
    again = verify(tiny_model, made.output, data="digits").verdict.to_dict()
    assert [again[key] for key in ("images", "split", "agreement", "confident")] == [
        verdict[key] for key in ("images", "split", "agreement", "confident")
    ]
    plain = export(tiny_model, tmp_path / "float.onnx").output
    there = verify(plain, made.output, data="digits", split="test").verdict
    report = evaluate([f"float={plain}", f"int8={made.output}"], data="digits").report
    assert there.agreement is not None
    assert (there.split, there.images) == ("test", report.variants[1].accuracy.n)
    assert report.variants[1].accuracy.agreement == there.agreement.share
    strict = quantize(tiny_model, tmp_path / "strict.onnx", QUICK.but(min_snr_db=200))
    assert (strict.exit_code, strict.output.read_bytes()) == (1, made.output.read_bytes())
    notes = evaluate([f"strict={strict.output}"], data="digits").report.variants[0].notes
    assert any("judged when it was made: FAILED" in note for note in notes)


def test_an_int8_file_is_not_quantized_again(made, tmp_path):
    with pytest.raises(BadInput, match=r"already quantized; got .*QuantizeLinear"):
        quantize(made.output, tmp_path / "twice.onnx", QUICK)


def test_choices_by_measurement_are_recorded(tiny_model, tmp_path):
    config = QuantizeConfig(data="digits", images=32, select_images=32)
    result = quantize(tiny_model, tmp_path / "auto.onnx", config)
    assert set(result.facts["snr_db"]) == {"minmax", "moving", "percentile", "mse", "entropy"}
    assert result.facts["choice"]["method"] == max(result.facts["snr_db"], key=result.facts["snr_db"].get)
    assert result.measured["speedup"] > 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (QuantizeConfig(), r"no calibration data; expected --data"),
        (QuantizeConfig(data="digits", target="ort-cuda"), r"int8 for ort-cuda; .*use fp16 there"),
        (QuantizeConfig(data="digits", target="torch-eager"), r"torch-eager has no int8 dialect"),
        (QuantizeConfig(data="digits", target="ort_cpu"), r"unknown int8 target 'ort_cpu'.*Did you mean 'ort-cpu'"),
        (
            QuantizeConfig(data="digits", target="cuda"),
            r"^unknown int8 target 'cuda'; expected one of (?!.*(?:ort-cuda|torch)).*tensorrt",
        ),
        (QuantizeConfig(data="digits", keep_float=("nowhere",), images=8), r"no node is called 'nowhere'"),
        (QuantizeConfig(data="nothing"), r"nothing"),
    ],
)
def test_bad_input_is_one_line(tiny_model, tmp_path, config, message):
    with pytest.raises(BadInput, match=message):
        quantize(tiny_model, tmp_path / "out.onnx", config)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"gone\.onnx does not exist"):
        quantize(tmp_path / "gone.onnx", None, QUICK)


def test_files_for_several_targets_lie_side_by_side():
    from deploykit.commands.quantize import default_name

    names = {target: default_name(Path("runs/net.onnx"), target) for target in ("ort-cpu", "tensorrt", "openvino")}
    assert names == {
        "ort-cpu": "net.int8.onnx",
        "tensorrt": "net.int8.tensorrt.onnx",
        "openvino": "net.int8.openvino.onnx",
    }


def test_fewer_pictures_than_asked_for_are_said(listening):
    from deploykit.config.quantize import QuantizeConfig
    from deploykit.quantization.calibration_images import calibration_pictures

    images = calibration_pictures(QuantizeConfig(data="digits", images=100_000), listening)
    assert f"calibrating on all {len(images.observed)} training pictures (100000 were asked for)" in listening.said


def test_an_operator_that_the_engine_does_not_know_is_named(tmp_path):
    from onnx import helper

    from deploykit.base.errors import BadInput
    from deploykit.commands.quantize import quantize
    from deploykit.config.quantize import QuantizeConfig
    from tests.quantization.graphs_for_tests import residual_net

    proto = residual_net()
    node = next(node for node in proto.graph.node if node.op_type == "Relu")
    node.op_type, node.domain = "Strange", "com.example"
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(proto, tmp_path / "odd.onnx")
    with pytest.raises(BadInput, match="Strange"):
        quantize(tmp_path / "odd.onnx", config=QuantizeConfig(data="digits", size=16))


def test_where_int8_gains_nowhere_it_is_said_and_the_file_is_made(tiny_model, tmp_path, monkeypatch, listening):
    from deploykit.quantization import ptq
    from deploykit.quantization.search import prepare

    def all_float(quantizer, base, *_):
        return replace(base, prefix=frozenset(node.name for node in prepare(quantizer.proto).graph))

    monkeypatch.setattr(ptq, "choose_prefix", all_float)
    made = quantize(tiny_model, tmp_path / "slow.onnx", QUICK.but(force_int8=False), progress=listening)
    assert made.facts["audit"]["int8_convs"] == made.facts["audit"]["convs"] > 0
    assert any("not predicted to be faster anywhere" in line for line in listening.said)
    assert not any("(predicted:" in line for line in listening.said)  # only what was decided in the end


def test_a_network_that_is_kept_float_altogether_is_no_int8_file(tiny_model, tmp_path):
    from deploykit.commands.export import export
    from deploykit.quantization.qdq.prepare import prepare

    source = export(tiny_model, tmp_path / "net.onnx").output
    names = tuple(node.name for node in prepare(onnx.load(source)).graph)
    message = r"no layer beside those of --keep-float that can be int8 on ort-cpu: nothing was quantized"
    with pytest.raises(AnswerNo, match=message):
        quantize(source, tmp_path / "made.onnx", QUICK.but(keep_float=names))
