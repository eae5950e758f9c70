"""Files of a fixed batch size go through the whole of quantize and analyze in that size."""

import pytest

from deploykit.commands.export import export
from deploykit.commands.quantize import quantize
from deploykit.config.export import ExportConfig
from deploykit.config.quantize import AnalyzeConfig, QuantizeConfig
from deploykit.quantization.analyze import analyze


@pytest.fixture(scope="module", params=[1, 5])
def fixed(request, trained_model, tmp_path_factory):
    batch = request.param
    path = tmp_path_factory.mktemp("fixed") / f"b{batch}.onnx"
    return export(trained_model, path, ExportConfig(batch=batch)).output, batch


@pytest.mark.parametrize("target", ["ort-cpu", "tensorrt", "openvino"])
def test_a_fixed_batch_is_quantized(fixed, target, tmp_path):
    source, batch = fixed
    config = QuantizeConfig(data="digits", images=16, select_images=32, target=target, force_int8=True)
    made = quantize(source, tmp_path / "made.onnx", config)
    assert [one["batch"] for one in made.facts["parity"]["by_batch"]] == [batch]
    assert made.facts["parity"]["ok"]
    if made.facts["measured"]:
        assert f"over float at batch {batch}" in made.summary()


def test_its_recoveries_choices_by_time_and_ranges_run(fixed, tmp_path):
    source, batch = fixed
    config = QuantizeConfig(
        data="digits",
        images=16,
        select_images=3,
        method="minmax",
        rounding="adaround",
        bias_correction="on",
        equalize="on",
        max_drop=100,
        sensitivity=True,
        ranges=str(tmp_path / "ranges.npz"),
        keep_float=(),
    )
    made = quantize(source, tmp_path / "made.onnx", config)
    assert made.facts["max_drop"]["pictures"] > batch
    assert made.facts["parity"]["ok"]


def test_its_layers_are_scored(fixed, tmp_path):
    source, _ = fixed
    config = AnalyzeConfig(data="digits", images=16, select_images=3, modes=("alone", "left-out"))
    assert len(analyze(source, tmp_path / "made.json", config).analysis["layers"]) > 3
