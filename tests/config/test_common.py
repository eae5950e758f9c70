"""Values that do not fit a configuration are told in words of the user."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Annotated, Any

import pytest

from deploykit.base.errors import BadInput
from deploykit.config import common
from deploykit.config.common import Config, build
from deploykit.config.export import ExportConfig
from deploykit.config.flag import OneOf
from deploykit.config.quantize import QuantizeConfig


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"batch": "0"}, "batch: got '0', expected 'dynamic', or greater than or equal to 1"),
        ({"opset": 3}, "opset: got 3, expected greater than or equal to 13"),
        ({"opsett": 20}, "unknown key 'opsett', did you mean 'opset'?"),
    ],
)
def test_one_line_says_what_got_and_expected(fields: dict[str, Any], line: str) -> None:
    with pytest.raises(BadInput) as error:
        build(ExportConfig, fields)
    assert error.value.line() == line
    with pytest.raises(BadInput) as error:
        build(ExportConfig, fields, "a.yaml")
    assert error.value.line() == f"a.yaml: {line}"


def test_synthetic_pictures_and_data_exclude_each_other() -> None:
    with pytest.raises(BadInput, match=r"^synthetic pictures stand in for data: leave one .*; got data 'digits'$"):
        build(QuantizeConfig, {"data": "digits", "synthetic": True})


def test_names_of_a_registry_are_told_like_written_ones() -> None:
    class Made(Config):
        one: Annotated[str, OneOf(("left", "right"))] = "left"
        many: tuple[Annotated[str, OneOf(("left", "right"))], ...] = ()

    assert build(Made, {"one": "right", "many": ["left"]}) == Made(one="right", many=("left",))
    with pytest.raises(BadInput) as error:
        build(Made, {"one": "rihgt", "many": ["up"]})
    assert error.value.line() == (
        "one: got 'rihgt', expected 'left' or 'right', did you mean 'right'? · many.0: got 'up', expected 'left' or 'right'"
    )


def test_defaults_stand_by_name() -> None:
    """Type checkers without pydantic's plugin see no other default, and would ask for every field."""
    wrong = [
        f"{path.name}:{node.lineno}"
        for path in sorted(Path(common.__file__).parent.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Field" and node.args
    ]
    assert not wrong
