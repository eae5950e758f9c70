"""The recipe that init writes is valid, and fits the model and the data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deploykit.base.errors import BadInput
from deploykit.cli.main import app
from deploykit.commands.init import init
from deploykit.config.init import InitConfig
from deploykit.config.recipe import ModelFile
from deploykit.config.recipe_read import load_recipe


def npz(folder: Path, classes: int, size: int = 32) -> str:
    random = np.random.default_rng(0)
    labels = np.arange(classes * 12) % classes
    images = random.integers(0, 256, (len(labels), size, size, 3), dtype=np.uint8)
    np.savez(folder / "data.npz", images=images, labels=labels)
    return str(folder / "data.npz")


def test_a_trained_model_that_fits_is_taken_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    result = init(tiny_model, tmp_path / "r.yaml", InitConfig(data="digits"))
    recipe = load_recipe(result.path)
    assert isinstance(recipe.model, ModelFile)
    assert recipe.model.file == str(tiny_model)
    assert (result.trains, recipe.train, recipe.data.name) == (False, {}, "digits")
    assert list(recipe.variants) == ["eager", "compiled", "fp32", "int8"]
    text = result.path.read_text()
    assert "# 10 classes: 0, 1, 2, 3, 4, …" in text
    assert f"deploykit run {tmp_path / 'r.yaml'} --dry-run" in result.summary()


def test_a_model_with_other_classes_is_fine_tuned(tiny_model: Path, tmp_path: Path) -> None:
    result = init(tiny_model, tmp_path / "r.yaml", InitConfig(data=npz(tmp_path, 3)))
    recipe = load_recipe(result.path)
    assert result.trains
    assert recipe.train_config().model.weights == str(tiny_model)
    assert recipe.train_config().model.arch.startswith("deploykit:resnet")


@pytest.mark.parametrize("goal", ["fast", "small", "accurate"])
def test_a_goal_switches_the_pruned_variants_on(goal: str, tiny_model: Path, tmp_path: Path) -> None:
    plain = init(tiny_model, tmp_path / "plain.yaml", data="digits", target="openvino").path.read_text()
    recipe = load_recipe(init(tiny_model, tmp_path / "r.yaml", data="digits", target="openvino", goal=goal).path)
    assert "  # pruned:" in plain
    assert list(recipe.variants)[-2:] == ["pruned", "pruned-int8"]
    assert {recipe.variants[name].target for name in ("fp32", "int8", "pruned", "pruned-int8")} == {"openvino"}
    assert recipe.budget.max_drop_pt == {"fast": 1.0, "small": 2.0, "accurate": 0.5}[goal]


def test_taking_the_marks_away_switches_them_on(tiny_model: Path, tmp_path: Path) -> None:
    written = init(tiny_model, tmp_path / "r.yaml", data="digits").path
    text = written.read_text()
    written.write_text(text.replace("  # Smaller", "# Smaller").replace("\n  # ", "\n  "))
    assert list(load_recipe(written).variants)[-2:] == ["pruned", "pruned-int8"]


def test_an_architecture_is_trained(tmp_path: Path) -> None:
    result = init("torchvision:resnet18", tmp_path / "r.yaml", InitConfig(data="digits", size=64, name="mine"))
    recipe = load_recipe(result.path)
    assert recipe.name == "mine"
    assert recipe.train_config().size == 64
    assert recipe.train_config().model.download is False


@pytest.mark.parametrize(
    ("model", "config", "text"),
    [
        ("none.pt", {"data": "digits"}, "none.pt"),
        ("deploykit:resnot", {"data": "digits"}, "resnot"),
        ("deploykit:resnet", {"data": "digitz"}, "digit"),
    ],
)
def test_wrong_models_and_data(model: str, config: dict[str, str], text: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=text):
        init(model, tmp_path / "r.yaml", InitConfig(**config))
    assert list(tmp_path.iterdir()) == []


def test_existing_recipes_are_kept_without_force(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("mine")
    with pytest.raises(BadInput, match=r"exists\. Choose another -o, or pass --force\."):
        init(tiny_model, tmp_path / "r.yaml", InitConfig(data="digits"))
    assert (tmp_path / "r.yaml").read_text() == "mine"
    init(tiny_model, tmp_path / "r.yaml", InitConfig(data="digits"), force=True)
    assert load_recipe(tmp_path / "r.yaml").data.name == "digits"


def test_the_command(tiny_model: Path, tmp_path: Path) -> None:
    words = ["init", str(tiny_model), "--data", "digits", "-o", str(tmp_path / "r.yaml"), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["schema"], answer["path"]) == ("deploykit.init/1", (tmp_path / "r.yaml").as_posix())
