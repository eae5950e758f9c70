"""Options that have another name now are still taken by their former one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import deploykit
from deploykit.cli.flags import read_flags
from deploykit.cli.main import app
from deploykit.config.recipe_read import parse_recipe

FORMER = [(name, one) for name, described in read_flags().items() for one in described["parameters"] if "old" in one]


def test_there_are_former_flags() -> None:
    assert {(name, one["old"]) for name, one in FORMER} >= {("verify", "--limit"), ("benchmark", "--max-drop-pt")}


@pytest.mark.parametrize(
    ("command", "one"), FORMER, ids=lambda value: value if isinstance(value, str) else value["name"]
)
def test_a_former_flag_is_not_shown_and_never_stands_beside_the_present_one(command, one) -> None:  # type: ignore[no-untyped-def]
    shown = CliRunner().invoke(app, [command, "--help"]).stdout
    assert one["old"] not in shown.replace(one["flags"][-1], "").split()
    both = CliRunner().invoke(app, [command, "x", "y", one["old"], "1", one["flags"][-1], "2"])
    assert both.exit_code == 2
    assert f"{one['old']} and {one['flags'][-1]} are one option" in both.stderr


def test_it_is_taken_with_one_line_and_means_the_same(tiny_model: Path, digits_npz: Path, tmp_path: Path) -> None:
    given = ["evaluate", str(tiny_model), "--data", str(digits_npz), "--threads", "1", "--json"]
    former = CliRunner().invoke(app, [*given, "-o", str(tmp_path / "a"), "--limit", "12"])
    present = CliRunner().invoke(app, [*given, "-o", str(tmp_path / "b"), "--images", "12"])
    assert former.exit_code == present.exit_code == 0, former.stderr
    assert former.stderr.count("--limit is called --images now") == 1
    assert "is called" not in present.stderr
    counted = [json.loads(done.stdout)["variants"][0]["accuracy"]["n"] for done in (former, present)]
    assert counted == [12, 12]


def test_files_and_keywords_take_the_former_name() -> None:
    assert deploykit.BenchmarkConfig.model_validate({"data": "digits", "limit": 3}).images == 3
    text = "version: 1\nname: a\nmodel: {file: a.pt}\ndata: digits\nvariants: {fp32: {target: ort-cpu}}\n"
    recipe = parse_recipe(text + "benchmark: {limit: 16}\n", "r.yaml")
    assert recipe.benchmark_config().images == 16
    with pytest.raises(deploykit.BadInput, match="limit: got 0"):
        deploykit.verify("a.pt", "b.pt", limit=0)  # type: ignore[call-arg]
