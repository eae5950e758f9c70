"""Sequences of steps that share one teacher: pruning in steps with recovery between, then int8."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploykit.pipeline import run
from deploykit.reporting import read_report
from tests.model_files import read_model_file

RECIPE = """\
version: 1
name: steps
data: digits
model: {arch: deploykit:resnet, kwargs: {depth: 8, widths: [16, 32, 64], stem_stride: 2}}
train: {epochs: 4, threads: 1, augment: {shift_px: 2}}
variants:
  fp32: {target: ort-cpu}
  small:
    target: ort-cpu
    steps:
      - prune: {macs: 0.7, threads: 1}
      - distill: {epochs: 1, threads: 1}
      - prune: {macs: 0.7, threads: 1}
      - distill: {epochs: 1, threads: 1, teachers: [model]}
      - quantize: {images: 64, select_images: 64}
benchmark: {images: 100, max_time_s: 0.5, min_blocks: 2, block_ms: 5, end_to_end: false}
"""


@pytest.mark.slow
def test_prune_and_distil_in_steps_then_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "steps.yaml").write_text(RECIPE)
    result = run(tmp_path / "steps.yaml")
    assert result.exit_code == 0, result.summary()
    report = read_report(result.folder / "report.json")
    small = next(variant for variant in report.variants if variant.name == "small")
    stages = [step.stage for step in small.steps]
    assert stages[:7] == ["train", "prune", "distill", "prune", "distill", "export", "quantize"]
    models = [read_model_file(path) for path in sorted((result.folder / "artifacts").glob("*.pt"))]
    last = max(models, key=lambda model: len(model.lineage))
    assert [entry["stage"] for entry in last.lineage] == ["train", "prune", "distill", "prune", "distill"]
    taught = [entry for entry in last.lineage if entry["stage"] == "distill"]
    teachers = [[parent["sha256"] for parent in entry["parents"] if parent["role"] == "teacher"] for entry in taught]
    assert teachers[0] == teachers[1]
    assert len(teachers[0]) == 1
    assert taught[1]["result"]["student"]["macs"] < 0.5 * last.lineage[1]["result"]["macs"]["before"]
    shown = [json.loads((result.folder / one.file).read_text()) for one in small.attachments]
    worth = next(
        one
        for one in reversed(shown)
        if one["title"] == "What each step was worth" and len(one["payload"]["rows"]) == 5
    )
    assert [row[0] for row in worth["payload"]["rows"]] == ["train", "prune", "distill", "prune (2)", "distill (2)"]
    page = (result.folder / "report.html").read_text()
    assert "What each step was worth" in page
    assert "Top-1 on select" in page


def test_distillation_and_training_for_int8_share_one_teacher() -> None:
    from deploykit.config.recipe_read import parse_recipe
    from deploykit.pipeline.plan import plan

    steps = "{distill: {epochs: 1}}, {quantize: {method: qat, qat_teacher: model}}, {quantize: {}}"
    text = f"{RECIPE}\n".replace("steps:\n", f"steps: [{{prune: {{macs: 0.5}}}}, {steps}]\n    unused:\n")
    head = text[: text.index("    unused:")] + text[text.index("benchmark:") :]
    stages = {stage.name: stage for stage in plan(parse_recipe(head, "steps.yaml")).stages}
    assert stages["small.distill"].teachers == stages["small.qat"].teachers == {"model": "model.train"}
    assert stages["small.qat"].source == "small.distill"
