"""Pruning to a latency: the table allocates, the whole is measured, and what was asked is what is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deploykit import models
from deploykit.base.artifact import read_manifest
from deploykit.base.choices import choices_path
from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.hashing import file_sha256
from deploykit.base.preprocessing import Preprocessing
from deploykit.cli.main import app
from deploykit.commands.prune import prune
from deploykit.config.common import build
from deploykit.config.prune import PruneConfig
from deploykit.pipeline import stages
from deploykit.pruning.latency import layer_times
from deploykit.pruning.latency.width_search import LatencySearch


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arch = models.parse_arch("deploykit:resnet")
    kwargs = {"depth": 8, "widths": [64, 128, 128], "stem_stride": 1}
    path = tmp_path_factory.mktemp("latency") / "net.pt"
    module = models.build(arch, 10, kwargs=kwargs).eval()
    preprocessing = Preprocessing(size=(48, 48), mean=(0.5,) * 3, std=(0.5,) * 3)
    named = models.Arch(arch.source, arch.name, kwargs | {"num_classes": 10})
    models.save_model(path, module, named, preprocessing, [str(i) for i in range(10)], lineage=[], samples=None)
    return path


@pytest.mark.parametrize("steps", [1, 2])
def test_the_measured_whole_holds_the_budget_and_the_prediction_is_stated(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(tmp_path / "cache"))
    result = prune(model, tmp_path / "small.pt", PruneConfig(latency=0.6, steps=steps))
    latency = result.measured["latency"]
    assert latency["measured"] <= 0.6
    assert 0.2 < latency["predicted"] < 0.9
    assert latency["prediction_error"] == pytest.approx(latency["predicted"] / latency["measured"] - 1, abs=2e-3)
    assert latency["tries"]
    assert latency["shapes_measured"] > 10
    assert result.facts["macs"]["kept"] < 0.9
    assert f"measured {100 * latency['measured']:.1f} % of the latency on ort-cpu" in result.summary()
    assert f"the layer table predicted {100 * latency['predicted']:.1f} %" in result.summary()
    assert len(list((tmp_path / "cache" / "latency").glob("ort-cpu-*.json"))) == 1
    if steps == 1:
        again = prune(model, tmp_path / "other.pt", PruneConfig(latency=0.7))
        assert again.measured["latency"]["shapes_measured"] == 0


@pytest.mark.parametrize("steps", [1, 3])
def test_a_budget_below_the_floor_says_the_floor_before_the_first_step(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr(LatencySearch, "widths", lambda *_: pytest.fail("a step was begun"))
    with pytest.raises(BadInput, match=r"--latency 0\.01 is below what protected .*; expected at least 0\.\d+"):
        prune(model, tmp_path / "none.pt", PruneConfig(latency=0.01, steps=steps))
    assert not list(tmp_path.glob("none*"))


def test_a_budget_that_is_missed_is_named(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LatencySearch, "_times", lambda *_: {"input": 1.0, "pruned": 2.0})
    with pytest.raises(AnswerNo, match=r"no widths measured within --latency 0\.6 on ort-cpu; got 2\.000 at best"):
        prune(model, tmp_path / "none.pt", PruneConfig(latency=0.6, steps=2))


@pytest.mark.parametrize("steps", [1, 2])
def test_choices_are_replayed_to_the_same_bytes_without_measuring(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(tmp_path / "cache"))
    made = prune(model, tmp_path / "small.pt", PruneConfig(latency=0.6, steps=steps))
    kept = choices_path(made.output)
    written = json.loads(kept.read_text())
    assert written["schema"] == "deploykit.choices/1"
    assert written["measured"]["latency"]["measured"] <= 0.6
    assert all(time_ms > 0 for time_ms in written["measured"]["layers_ms"].values())
    assert len(written["chosen"]["widths"]) == steps

    monkeypatch.setattr(LatencySearch, "__enter__", lambda *_: pytest.fail("something is measured"))
    again = PruneConfig(latency=0.6, steps=steps, choices=str(kept))
    replayed = prune(model, tmp_path / "again.pt", again)
    assert file_sha256(replayed.output) == file_sha256(made.output)
    assert not choices_path(replayed.output).exists()
    assert "latency" not in replayed.measured
    assert replayed.facts["latency"] == made.facts["latency"]
    assert "ms" not in json.dumps(made.facts["latency"])
    assert "widths replayed for 60.0 % of the latency on ort-cpu" in replayed.summary()
    assert not prune(model, tmp_path / "again.pt", again).made


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"latency": 0.5}, "another asked"),
        ({"latency": 0.6, "steps": 2}, "another steps"),
        ({"latency": 0.6, "threads": 2}, "another threads"),
        ({"latency": 0.6, "keep": ("layer3",)}, "widths of other layers"),
    ],
)
def test_choices_of_another_pruning_are_refused(
    model: Path, tmp_path: Path, fields: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(model.parent / "cache"))
    if not (model.parent / "kept.pt").exists():
        prune(model, model.parent / "kept.pt", PruneConfig(latency=0.6))
    config = build(PruneConfig, {**fields, "choices": str(choices_path(model.parent / "kept.pt"))})
    with pytest.raises(BadInput, match=why):
        prune(model, tmp_path / "none.pt", config)
    assert not list(tmp_path.glob("none*"))


def test_a_step_on_the_way_may_miss(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    widths = LatencySearch.widths

    def noted(self: LatencySearch, fraction: float, *rest: Any) -> Any:
        asked.append(fraction)
        return widths(self, fraction, *rest)

    monkeypatch.setattr(LatencySearch, "widths", noted)
    monkeypatch.setattr(LatencySearch, "_times", lambda *_: {"input": 1.0, "pruned": 0.9 if len(asked) == 1 else 0.59})
    latency = prune(model, tmp_path / "small.pt", PruneConfig(latency=0.6, steps=2)).measured["latency"]
    assert asked == pytest.approx([0.8, 0.6])
    assert latency["measured"] == 0.59


def test_a_target_without_layer_times_is_refused(model: Path) -> None:
    done = CliRunner().invoke(app, ["prune", str(model), "--latency", "0.5", "--target", "torch-eager"])
    assert done.exit_code == 2
    assert "target: got 'torch-eager', expected 'ort-cpu', 'ort-cuda', 'tensorrt', 'tensorrt-rtx' or" in done.stderr
    assert model.with_name("net.pruned50.pt") not in list(model.parent.iterdir())


@pytest.mark.parametrize(("target", "library"), [("ort-cpu", "onnxruntime"), ("openvino", "openvino")])
def test_another_version_of_what_times_is_another_result(
    model: Path, monkeypatch: pytest.MonkeyPatch, target: str, library: str
) -> None:
    versions, hardware = layer_times.timing_of(target)
    names = [name for name in versions if name.startswith(library)]
    assert names
    assert set(hardware) == {"cpu"}
    before = key_of(model, latency=0.5, target=target)
    monkeypatch.setattr(layer_times, "library_versions", lambda names: dict.fromkeys(names, "99"))
    assert layer_times.timing_of(target)[0][names[0]] == "99"
    assert key_of(model, latency=0.5, target=target) != before


def test_another_gpu_is_another_result_where_it_times(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, plain = set(), set()
    for name in ("H100", "L4"):
        monkeypatch.setattr(layer_times, "gpus", lambda name=name: [{"name": name}])
        assert layer_times.timing_of("tensorrt")[1]["gpus"] == [name]
        keys.add(key_of(model, latency=0.5, target="tensorrt"))
        plain.add(key_of(model, macs=0.5))
    assert (len(keys), len(plain)) == (2, 1)


def key_of(model: Path, **fields: object) -> str:
    config = build(PruneConfig, fields)
    arguments = {"model": model, "output": model.with_name("small.pt"), "config": config}
    return stages.planned("prune", arguments, lambda: pytest.fail("no data are named")).key


def test_openvino_measures_the_layers_and_the_whole(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(tmp_path / "cache"))
    result = prune(model, tmp_path / "small.pt", PruneConfig(latency=0.6, target="openvino"))
    latency = result.measured["latency"]
    assert latency["target"] == "openvino"
    assert latency["measured"] <= 0.6
    assert latency["shapes_measured"] > 10
    assert result.facts["macs"]["kept"] < 0.9
    assert len(list((tmp_path / "cache" / "latency").glob("openvino-*.json"))) == 1


@pytest.mark.slow
def test_resnet18_by_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(tmp_path / "cache"))
    arch = models.parse_arch("torchvision:resnet18")
    source, output = tmp_path / "resnet18.pt", tmp_path / "small.pt"
    preprocessing = Preprocessing((160, 160))
    models.save_model(source, models.build(arch, 10).eval(), arch, preprocessing, [str(i) for i in range(10)])
    done = CliRunner().invoke(app, ["prune", str(source), "--latency", "0.5", "-o", str(output)])
    assert done.exit_code == 0, done.stderr
    assert "% of the latency on ort-cpu" in done.stdout
    told = read_manifest(output)
    assert told is not None
    latency = told.measured["latency"]
    assert latency["measured"] <= 0.5
    assert abs(latency["prediction_error"]) < 0.25
    assert 0.3 < told.facts["macs"]["kept"] < 0.7
    assert models.load_model(output).preprocessing == preprocessing
