"""Functions take their configuration's fields as keywords."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from deploykit.base.errors import BadInput
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.config.export import ExportConfig
from deploykit.config.keywords import by_keywords
from deploykit.config.train import TrainConfig


@by_keywords(ExportConfig)
def told(model: str, output: str | None = None, config: ExportConfig | None = None, *, force: bool = False) -> Any:
    """What arrives."""
    return model, output, config, force


def test_keywords_are_checked_as_fields_and_others_pass_through() -> None:
    assert told("m.pt", opset=18, force=True) == ("m.pt", None, ExportConfig(opset=18), True)  # type: ignore[call-arg]
    assert told("m.pt", "o.onnx") == ("m.pt", "o.onnx", None, False)


def test_keywords_change_a_configuration_beside_them() -> None:
    config = ExportConfig(opset=18, seed=3)
    assert told("m.pt", None, config, seed=4)[2] == ExportConfig(opset=18, seed=4)  # type: ignore[call-arg]
    assert told("m.pt", config=config)[2] is config


@pytest.mark.parametrize(
    ("fields", "what", "got", "expected", "fix"),
    [
        ({"opset": 3}, "opset", "3", "greater than or equal to 13", None),
        (
            {"exporter": "dynammo"},
            "exporter",
            "'dynammo'",
            "'auto', 'dynamo' or 'torchscript'",
            "did you mean 'dynamo'?",
        ),
        ({"opsett": 18}, "unknown key 'opsett'", None, None, "did you mean 'opset'?"),
    ],
)
def test_mistakes_are_told_as_in_any_configuration(
    fields: dict[str, Any], what: str, got: str | None, expected: str | None, fix: str | None
) -> None:
    with pytest.raises(BadInput) as caught:
        told("m.pt", **fields)
    error = caught.value
    assert (error.what, error.got, error.expected, error.fix) == (what, got, expected, fix)


def test_the_signature_shows_the_fields() -> None:
    parameters = inspect.signature(told).parameters
    assert list(parameters)[:4] == ["model", "output", "config", "force"]
    assert parameters["opset"].default == 20
    assert set(ExportConfig.model_fields) <= set(parameters)


def test_what_is_required_is_told() -> None:
    @by_keywords(TrainConfig)
    def trained(config: TrainConfig | None = None) -> Any:
        """What arrives."""
        return config

    with pytest.raises(BadInput, match="missing key 'data'"):
        trained(seed=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("config", "got"),
    [({"opset": 18}, "dict"), ("o.onnx", "'o.onnx'"), (BenchmarkConfig(data="digits"), "BenchmarkConfig")],
)
@pytest.mark.parametrize("fields", [{}, {"opset": 18}])
def test_a_configuration_of_another_type_is_told(config: Any, got: str, fields: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        told("m.pt", None, config, **fields)
    assert caught.value.line() == f"config: got {got}, expected ExportConfig, or its fields as keywords"
