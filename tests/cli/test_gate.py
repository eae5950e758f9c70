"""``deploykit gate`` from the command line: exit codes, policies with errors, the JSON object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploykit.cli.main import app
from tests.gating.made import run_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return run_folder(tmp_path_factory.mktemp("gate") / "run", {"fp32": {}, "int8": {"factor": 0.4}})


def call(*words: object):
    return CliRunner().invoke(app, ["gate", *map(str, words), "--annotations", "none"])


@pytest.mark.parametrize(
    ("limits", "code", "status"),
    [
        ("min_speedup: 2", 0, "ok"),
        ("min_speedup: 3", 1, "failed"),
        ("min_speedup: 2.5", 3, "cannot_tell"),
    ],
)
def test_exit_codes(run, tmp_path, limits, code, status):
    policy = tmp_path / "mine.yaml"
    policy.write_text(f"version: 1\nlimits:\n  int8: {{{limits}}}\n")
    done = call(run, "--policy", policy, "--json", "-o", tmp_path / "out")
    assert done.exit_code == code, done.output
    told = json.loads(done.stdout)
    assert (told["schema"], told["status"]) == ("deploykit.gate/1", status)
    assert told["findings"][0]["rule"] == "min_speedup"
    assert (tmp_path / "out" / "gate.md").is_file()
    assert call(run, "--policy", policy).stdout.startswith({0: "pass", 1: "fail", 3: "cannot tell"}[code])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "version: 1\nlimits:\n  int8: {max_dorp_pt: 1}\n",
            "mine.yaml:3: limits.int8: unknown key 'max_dorp_pt', did you mean 'max_drop_pt'?",
        ),
        ("version: 1\nlimit: {}\n", "mine.yaml:2: unknown key 'limit', did you mean 'limits'?"),
        ("version: 1\nlimits: {int8: {min_speedup: -1}}\n", "min_speedup: got -1, expected greater than 0"),
        ("version: 3\nlimits: {int8: {}}\n", "version: got 3, expected 1 or 2"),
        ("version: 1\nlimits: {}\n", "limits: got {}"),
        ("- 1\n", "mine.yaml is no policy; got list"),
        ("version: 1\nlimits: {int8: {min_top1: .nan}}\n", "min_top1"),
        ("a: [\n", "this is no YAML"),
    ],
)
def test_policies_with_errors_are_told_with_their_place(run, tmp_path, text, message):
    policy = tmp_path / "mine.yaml"
    policy.write_text(text)
    done = call(run, "--policy", policy)
    assert done.exit_code == 2
    assert message in done.stderr


def test_shipped_policies_by_name(run):
    done = call(run, "--policy", "defualt")
    assert done.exit_code == 2
    assert "expected one of default, regression" in done.stderr or "one of default, regression" in done.stderr
    assert "Did you mean 'default'?" in done.stderr
    assert call(run).exit_code in (0, 3)


def test_a_missing_report_is_named(tmp_path):
    done = call(tmp_path / "none.json")
    assert done.exit_code == 2
    assert "none.json does not exist" in done.stderr
