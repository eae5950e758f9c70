"""The shipped recipe that trains for int8, on the real digits: margins that rounding leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploykit.config.recipe_read import load_recipe
from deploykit.config.run import RunConfig
from deploykit.pipeline import run
from deploykit.pipeline.find_recipe import find_recipe
from deploykit.pipeline.plan import plan

SHORT = (
    "data=digits", "model.kwargs={width: 0.25, stem_stride: 2}", "train.epochs=4",
    "benchmark.max_time_s=2", "benchmark.min_blocks=2", "benchmark.block_ms=5", "benchmark.end_to_end=false",
    "variants.int8-qat.steps.0.quantize.qat_epochs=1", "variants.int8-qat.steps.0.quantize.images=32",
    "variants.int8.steps.0.quantize.images=32",
)  # fmt: skip


def test_it_trains_once_and_writes_each_file_out() -> None:
    stages = plan(load_recipe(find_recipe("qat"))).stages
    assert [stage.name for stage in stages][:1] == ["model.train"]
    named = {stage.name: stage for stage in stages}
    assert named["int8-qat.qat"].output.suffix == ".pt"
    assert named["int8-qat.quantize"].source == "int8-qat.qat"
    assert named["int8-qat.quantize"].output.suffix == ".onnx"
    assert named["int8-qat.qat"].config.method == "qat"


@pytest.mark.slow
def test_the_shipped_recipe_runs_on_few_pictures(tmp_path: Path) -> None:
    result = run(find_recipe("qat"), tmp_path / "run", RunConfig(changes=SHORT))
    assert result.report is not None
    variants = {one.name: one for one in result.report.variants}
    for name in ("fp32", "int8", "int8-qat"):
        assert variants[name].artifact.path == f"artifacts/{name}.onnx", variants[name]
    assert variants["int8-qat"].status == "ok", variants["int8-qat"].reason
    assert variants["int8-qat"].audit["int8_convs"] > 0
    stages = [step.stage for step in variants["int8-qat"].steps]
    assert stages == ["train", "quantize", "quantize", "benchmark"]
    again = run(find_recipe("qat"), tmp_path / "run", RunConfig(changes=SHORT))
    assert {one.status for one in again.stages} == {"kept"}
