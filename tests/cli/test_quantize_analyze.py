import json

from typer.testing import CliRunner

from deploykit.cli.main import app


def test_analyze_prints_one_object_and_writes_two_files(tiny_model, tmp_path):
    output = tmp_path / "tiny.analysis.json"
    wanted = ["quantize", str(tiny_model), "-o", str(output), "--data", "digits", "--images", "8", "--method", "minmax"]
    result = CliRunner().invoke(app, [*wanted, "--analyze", "--sweep", "left-out", "--json", "--quiet"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["schema"] == "deploykit.quantize/1"
    assert printed["modes"] == ["left-out"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "tiny.analysis.html",
        "tiny.analysis.json",
        "tiny.analysis.json.manifest.json",
    ]


def test_sweep_without_analyze_is_wrong_use(tiny_model):
    result = CliRunner().invoke(app, ["quantize", str(tiny_model), "--data", "digits", "--sweep", "alone"])
    assert result.exit_code == 2
    assert "--sweep says what is analyzed; expected --analyze with it" in result.stderr


def test_an_unknown_sweep_is_named(tiny_model):
    result = CliRunner().invoke(app, ["quantize", str(tiny_model), "--data", "digits", "--analyze", "--sweep", "half"])
    assert result.exit_code == 2
    assert "half" in result.stderr
    assert "left-out" in result.stderr


def test_a_negative_drop_is_refused(tiny_model):
    result = CliRunner().invoke(app, ["quantize", str(tiny_model), "--data", "digits", "--max-drop", "-1"])
    assert result.exit_code == 2
    assert "--max-drop" in result.stderr
