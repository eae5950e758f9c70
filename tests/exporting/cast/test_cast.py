from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from deploykit.base.artifact import read_manifest
from deploykit.base.errors import BadInput, Unavailable
from deploykit.base.lineage import chain_of
from deploykit.commands.export import export
from deploykit.commands.verify import verify
from deploykit.config.common import build
from deploykit.config.export import ExportConfig
from deploykit.data import synthetic_images
from deploykit.engines import open_runner
from deploykit.exporting.cast import cast as command
from deploykit.exporting.cast.cast import cast_graph
from tests.listening import Listening

FP16 = ExportConfig(precision="fp16", data="digits", images=16)


@pytest.fixture(scope="module")
def float_file(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cast")
    shutil.copy(tiny_model, folder / "model.pt")
    return export(folder / "model.pt", folder / "model.onnx", ExportConfig(exporter="torchscript", opset=17)).output


@pytest.fixture
def source(float_file: Path, tmp_path: Path) -> Path:
    for path in float_file.parent.iterdir():
        if path.name.startswith("model."):
            shutil.copy(path, tmp_path / path.name)
    return tmp_path / "model.onnx"


def loud(source: Path, factor: float = 1e5) -> Path:
    """The same function, with values beyond fp16 between a convolution and the only one that reads it."""
    model = onnx.load(source)
    readers = {
        name: [node for node in model.graph.node if name in node.input]
        for node in model.graph.node
        for name in node.output
    }
    for relu in (node for node in model.graph.node if node.op_type == "Relu"):
        maker = next(node for node in model.graph.node if relu.input[0] in node.output)
        if maker.op_type == "Conv" and [one.op_type for one in readers[relu.output[0]]] == ["Conv"]:
            break
    scales = dict.fromkeys(maker.input[1:], factor) | {readers[relu.output[0]][0].input[1]: 1 / factor}
    for weight in model.graph.initializer:
        if weight.name in scales:
            array = onnx.numpy_helper.to_array(weight) * np.float32(scales[weight.name])
            weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    path = source.with_name("loud.onnx")
    onnx.save(model, path)
    return path


def test_a_model_file_is_exported_and_cast(source: Path) -> None:
    made = export(source.with_suffix(".pt"), None, FP16.but(exporter="torchscript", opset=17))
    assert made.output == source.with_name("model.fp16.onnx")
    facts = made.facts
    assert facts["export"]["exporter"] == "torchscript"
    assert facts["cast"]["precision"] == "fp16"
    assert (facts["cast"]["nodes_float"], facts["cast"]["casts"]) == (0, 0)
    assert facts["parity"]["ok"]
    assert facts["verified_on"] == "digits"
    manifest = read_manifest(made.output)
    assert manifest is not None
    assert manifest.precision == "fp16"
    assert manifest.parents[0].path == "model.pt"
    assert manifest.classes == tuple(str(n) for n in range(10))
    assert "fp16, 0 casts" in made.summary()
    with open_runner(made.output) as runner:
        assert (runner.precision, runner.inputs[0].dtype) == ("fp16", "float16")
        assert runner.preprocessing is not None
    again = export(source.with_suffix(".pt"), None, FP16.but(exporter="torchscript", opset=17))
    assert not again.made
    assert again.facts == facts


def test_a_16_bit_file_is_verified_as_any_other(source: Path) -> None:
    made = export(source, None, FP16)
    assert [step["stage"] for step in chain_of(made.output).steps] == ["export", "export"]
    result = verify(str(source.with_suffix(".pt")), str(made.output))
    assert result.parity.ok
    assert result.parity.precision == "fp16"


def test_keep_io_keeps_float32_at_both_ends(source: Path) -> None:
    made = export(source, None, FP16.but(keep_io=True))
    assert made.facts["cast"]["casts"] == 2
    with open_runner(made.output) as runner:
        assert (runner.inputs[0].dtype, runner.outputs[0].dtype) == ("float32", "float32")


def test_bf16_keeps_its_ends_and_says_so(source: Path, listening: Listening) -> None:
    made = export(source, None, FP16.but(precision="bf16"), progress=listening)
    assert made.output.name == "model.bf16.onnx"
    assert made.facts["cast"]["keep_io"]
    assert made.facts["cast"]["opset"] == 22
    assert "inputs and outputs stay float32: numpy has no bf16" in listening.said
    with pytest.raises(Unavailable, match=r"ort-cpu has no kernel for Conv in the precision of .*model\.bf16\.onnx"):
        open_runner(made.output)


def test_overflow_is_kept_from_the_file_and_told(source: Path, listening: Listening) -> None:
    made = export(loud(source), None, FP16.but(keep_io=True), progress=listening)
    kept = made.facts["cast"]["kept_float"]
    assert 3 <= len(kept) <= 5
    assert any("numbers up to" in why for why in kept.values())
    assert made.facts["parity"]["snr_db"] > 40
    assert any("nodes stay float32" in line for line in listening.said)
    assert "in float32 (" in made.summary()


def test_without_ranges_the_same_net_fails_and_its_file_is_kept(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_observe", lambda *rest: {})  # nothing is known of the values
    monkeypatch.setattr(command, "WORST", ())
    monkeypatch.setattr(command, "PREFIXES", ())
    from deploykit.exporting.cast import cast_plan

    monkeypatch.setattr(cast_plan, "_weight_reason", lambda *rest: None)
    failed = export(loud(source), None, FP16)
    assert (failed.status, failed.exit_code) == ("failed", 1)
    assert failed.output.is_file()
    assert "numbers are NaN or infinite" in failed.summary()
    again = export(loud(source), None, FP16)
    assert (again.made, again.exit_code) == (False, 1)
    accepted = export(loud(source), None, FP16.but(accept=True))
    assert (accepted.made, accepted.status, accepted.exit_code) == (False, "failed", 0)
    manifest = read_manifest(failed.output)
    assert manifest is not None
    assert manifest.facts["verdict"]["accepted"]
    assert export(loud(source), None, FP16).exit_code == 1


def test_nodes_that_lose_most_go_back_where_the_plan_is_not_enough(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploykit.exporting.cast import cast_plan

    monkeypatch.setattr(cast_plan, "_weight_reason", lambda *rest: None)
    monkeypatch.setattr(cast_plan, "_value_reason", lambda *rest: None)
    made = export(loud(source), None, FP16.but(keep_io=True))
    assert made.facts["parity"]["ok"]
    assert 4 <= len(made.facts["cast"]["kept_float"]) <= 20
    assert any("loses" in why for why in made.facts["cast"]["kept_float"].values())


def test_a_quantized_file_keeps_its_precision(source: Path) -> None:
    from deploykit.commands.quantize import quantize
    from deploykit.config.quantize import QuantizeConfig

    config = QuantizeConfig(target="tensorrt", data="digits", images=16, select_images=16, method="minmax", equalize="off", bias_correction="off")  # fmt: skip
    made = quantize(source, source.with_name("q.onnx"), config).output
    result = export(made, None, FP16.but(keep_io=True))
    manifest = read_manifest(result.output)
    assert manifest is not None
    assert manifest.precision == "int8"
    graph = onnx.load(result.output).graph
    scales = {node.input[1] for node in graph.node if node.op_type == "DequantizeLinear"}
    kinds = {one.data_type for one in graph.initializer if one.name in scales}
    assert kinds == {onnx.TensorProto.FLOAT16}
    assert result.facts["parity"]["snr_db"] > 15  # rounding in 16 bits moves some values to the next integer


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ExportConfig(), "is an ONNX file already; expected a model file .*--precision fp16 or bf16"),
        (FP16.but(opset=18), "--opset is of an export, .*is only cast; got 18"),
        (FP16.but(keep_float=("Conf",)), "no node or operator is called 'Conf'"),
        (FP16.but(data="no/such/place"), "no/such/place"),
    ],
)
def test_bad_use(source: Path, config: ExportConfig, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        export(source, None, config)
    assert not source.with_name("model.fp16.onnx").exists()


def test_flags_of_a_16_bit_file_need_one() -> None:
    with pytest.raises(BadInput, match="of a 16-bit file alone: keep_io"):
        build(ExportConfig, {"keep_io": True})


def test_without_pictures_only_weights_are_looked_at(source: Path) -> None:
    cast = cast_graph(source, "fp16", None)
    assert cast.facts["parity"] is None
    assert cast.facts["verified_as"] is None
    kept = cast_graph(loud(source), "fp16", None).facts["kept_float"]
    assert any("a weight of" in why for why in kept.values())
    assert not any("numbers up to" in why for why in kept.values())


def test_synthetic_pictures_are_said(float_file: Path, tmp_path: Path, listening: Listening) -> None:
    alone = Path(shutil.copy(float_file, tmp_path / "alone.onnx"))
    made = export(alone, None, ExportConfig(precision="fp16"), progress=listening)
    assert made.facts["verified_on"] == "synthetic"
    assert any("ranges of only 16 pictures (synthetic)" in line for line in listening.warned)
    with pytest.raises(BadInput, match="there are no real pictures to verify on"):
        export(alone, tmp_path / "b.onnx", ExportConfig(precision="fp16", require_real=True))


def test_a_net_with_a_fixed_batch(source: Path) -> None:
    fixed = export(
        source.with_suffix(".pt"), source.with_name("two.onnx"), ExportConfig(exporter="torchscript", opset=17, batch=2)
    ).output
    images = list(synthetic_images(5, (32, 32), 0))
    cast = cast_graph(fixed, "fp16", images)
    assert [one["batch"] for one in cast.facts["parity"]["by_batch"]] == [2]
