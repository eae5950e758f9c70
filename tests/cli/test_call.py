"""What the words of the command line become before a command's function sees them."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

import deploykit
from deploykit.cli.main import app
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.config.export import ExportConfig
from deploykit.config.prune import PruneConfig
from deploykit.config.run import RunConfig
from deploykit.config.train import TrainConfig


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments that the function of any command was called with."""
    seen: dict[str, Any] = {}

    def function(**arguments: Any) -> None:
        seen.update(arguments)
        raise KeyboardInterrupt

    for name in ("export", "prune", "train", "benchmark", "run", "inspect"):
        monkeypatch.setattr(deploykit, name, function, raising=False)
    return seen


@pytest.mark.parametrize(
    ("words", "config"),
    [
        (["export", "m.pt"], ExportConfig()),
        (["export", "m.pt", "--batch", "4", "--opset", "18"], ExportConfig(batch=4, opset=18)),
        (
            ["export", "m.pt", "--precision", "fp16", "--keep-float", "a", "--keep-float", "b"],
            ExportConfig(precision="fp16", keep_float=("a", "b")),
        ),
        (["export", "m.pt", "--arch", "mine:net"], ExportConfig(arch="mine:net", allow_code=True)),
        (["export", "m.pt", "--arch", "timm:resnet18"], ExportConfig(arch="timm:resnet18")),
        (
            ["prune", "m.pt", "--ratio", "a.b=0.5", "--ratio", "c=1", "--round-to", "8", "--no-recalibrate"],
            PruneConfig(ratios={"a.b": 0.5, "c": 1.0}, round_to=8, recalibrate=False),
        ),
        (["prune", "m.pt", "--macs", "0.5", "--recalibrate"], PruneConfig(macs=0.5)),
        (
            [
                "train",
                "--data",
                "digits",
                "--kwarg",
                "depth=8,widths=[8, 16]",
                "--augment",
                "flip=0.5",
                "--mean",
                "0,0.5,1",
            ],
            TrainConfig(
                data="digits",
                model={"kwargs": {"depth": 8, "widths": [8, 16]}},
                augment={"flip": 0.5},
                mean=(0, 0.5, 1),
                allow_code=True,
            ),
        ),
        (["train", "--data", "digits", "--weights", "w.pt"], TrainConfig(data="digits", model={"weights": "w.pt"})),
        (
            ["benchmark", "a.pt", "--data", "digits", "--until", "±1%", "--compute-only", "--scenario", "offline"],
            BenchmarkConfig(data="digits", until=0.01, end_to_end=False, scenarios=("offline",)),
        ),
        (["run", "quickstart", "--no-wait", "--set", "a=1"], RunConfig(wait=False, changes=("a=1",))),
    ],
)
def test_words_become_fields(called: dict[str, Any], words: list[str], config: Any) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 130, done.stderr
    assert called["config"] == config


def test_what_stands_beside_the_configuration_is_passed_by_name(called: dict[str, Any]) -> None:
    CliRunner().invoke(app, ["export", "m.pt", "-o", "o.onnx", "--force"])
    assert (called["model"], called["output"], called["force"]) == ("m.pt", "o.onnx", True)


def test_code_named_for_inspect_may_run(called: dict[str, Any]) -> None:
    CliRunner().invoke(app, ["inspect", "m.pt", "--arch", "mine:net"])
    assert called["config"].allow_code
