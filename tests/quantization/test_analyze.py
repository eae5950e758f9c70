import json

import pytest

from deploykit.base.artifact import read_manifest
from deploykit.base.errors import BadInput
from deploykit.config.quantize import AnalyzeConfig
from deploykit.quantization.analyze import analyze

QUICK = AnalyzeConfig(data="digits", images=16, select_images=16, method="minmax")


@pytest.fixture(scope="module")
def made(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("analysis")
    config = QUICK.model_copy(update={"modes": ("alone", "weights"), "ranges": str(folder / "tiny.ranges.json")})
    return analyze(tiny_model, folder / "tiny.json", config)


def test_every_layer_has_its_scores_and_tensors(made):
    found = json.loads(made.output.read_text())
    assert found["schema"] == "deploykit.sensitivity/1"
    assert found["model"]["name"] == "tiny"
    layers = found["layers"]
    assert len(layers) > 5
    assert {one["op_type"] for one in layers} == {"Conv", "Gemm"}
    kl = [one["scores"]["alone"]["kl"] for one in layers]
    assert kl == sorted(kl, reverse=True)
    assert found["whole"]["snr_db"] > 10
    for one in layers:
        assert set(one["scores"]) == {"alone", "weights"}
        assert sum(one["input"]["histogram"]) > 0
        assert one["weights"]["channel_spread"] >= 1
        assert 0 <= one["input"]["clipped_ratio"] < 0.05


def test_the_page_shows_each_layer_and_needs_nothing_else(made):
    page = made.page.read_text()
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in page
    for one in made.analysis["layers"]:
        assert one["name"] in page
    assert page.count("<svg") == 3 * len(made.analysis["layers"])


def test_the_table_for_people_has_a_line_a_layer(made):
    lines = made.summary().splitlines()
    assert lines[0].split()[0] == "layer"
    assert lines[1].split()[0] == made.analysis["layers"][0]["name"]
    assert "all of them quantized: KL" in made.summary()


def test_a_second_run_does_nothing_and_another_option_makes_it_anew(made, tiny_model):
    config = QUICK.model_copy(update={"modes": ("alone", "weights"), "ranges": None})
    again = analyze(tiny_model, made.output, config)
    assert again.made is False
    assert again.analysis == made.analysis
    manifest = read_manifest(made.output)
    assert set(manifest.files) == {"tiny.json", "tiny.html"}


def test_the_range_file_saves_the_calibration(made, tiny_model, tmp_path, listening):
    ranges = str(made.output.parent / "tiny.ranges.json")
    config = QUICK.model_copy(update={"ranges": ranges})
    analyze(tiny_model, tmp_path / "again.json", config, progress=listening)
    assert any("ranges of 16 pictures read from" in line for line in listening.said)


def test_a_range_file_of_another_calibration_is_refused(made, tiny_model, tmp_path):
    ranges = str(made.output.parent / "tiny.ranges.json")
    config = QUICK.model_copy(update={"ranges": ranges, "images": 8})
    with pytest.raises(BadInput, match=r"holds the ranges of other pictures; got sha256 \w{12}; expected"):
        analyze(tiny_model, tmp_path / "again.json", config)


@pytest.mark.parametrize(
    ("output", "config", "message"),
    [
        ("a.json", AnalyzeConfig(), "no calibration data; expected --data"),
        ("a.html", QUICK, r"the output's name; got a\.html; expected a name that ends with \.json"),
        ("a.json", AnalyzeConfig(data="digits", target="ort-cuda"), "int8 for ort-cuda"),
    ],
)
def test_bad_input_is_one_line(tiny_model, tmp_path, output, config, message):
    with pytest.raises(BadInput, match=message):
        analyze(tiny_model, tmp_path / output, config)
    assert list(tmp_path.iterdir()) == []
