"""A recipe with a gate ends with the gate's verdict and exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploykit.base.errors import BadInput
from deploykit.config.run import RunConfig
from deploykit.pipeline import run

RECIPE = """\
version: 1
name: small
data: digits
model: {arch: deploykit:resnet, kwargs: {depth: 8, widths: [16, 32, 64], stem_stride: 2}}
train: {epochs: 1, threads: 1}
variants:
  fp32: {target: ort-cpu}
  same: {target: ort-cpu}
benchmark: {images: 100, max_time_s: 0.5, min_blocks: 2, block_ms: 5, end_to_end: false}
gate: {limits: {"*": {max_drop_pt: 5, max_latency_ratio: 20}}}
"""


def test_the_gate_decides_how_a_run_ends(tmp_path: Path) -> None:
    recipe, folder = tmp_path / "small.yaml", tmp_path / "run"
    recipe.write_text(RECIPE)
    result = run(recipe, folder)
    assert (result.status, result.exit_code) == ("ok", 0)
    assert "gate: " in result.summary()
    assert json.loads((folder / "gate" / "gate.json").read_text())["verdict"] == "pass"
    too_much = run(recipe, folder, RunConfig(changes=("gate.limits.*.min_speedup=50",)))
    assert (too_much.status, too_much.exit_code) == ("failed", 1)
    assert {stage.status for stage in too_much.stages} == {"kept"}
    assert too_much.to_dict()["gate"]["verdict"] == "fail"


def test_a_policy_file_is_looked_for_beside_the_recipe_before_anything_runs(tmp_path: Path) -> None:
    recipe, folder = tmp_path / "small.yaml", tmp_path / "run"
    recipe.write_text(RECIPE.replace('{limits: {"*": {max_drop_pt: 5, max_latency_ratio: 20}}}', "mine.yaml"))
    with pytest.raises(BadInput, match=r"there is no policy mine\.yaml"):
        run(recipe, folder)
    assert not folder.exists()
    (tmp_path / "mine.yaml").write_text("version: 1\nlimits: {'*': {max_dorp_pt: 5}}\n")
    with pytest.raises(BadInput, match="did you mean 'max_drop_pt'"):
        run(recipe, folder)
