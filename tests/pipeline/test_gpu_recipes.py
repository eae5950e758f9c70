"""The shipped GPU recipes: read and planned here; run whole, what the machine lacks is left out with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploykit.config.recipe_read import load_recipe
from deploykit.config.run import RunConfig
from deploykit.engines.onnxruntime.providers import missing_library
from deploykit.engines.tensorrt.hardware import gpu_or_none
from deploykit.pipeline import run
from deploykit.pipeline.find_recipe import find_recipe
from deploykit.pipeline.plan import plan

RECIPES = ("gpu_resnet50", "gpu_mobilenetv2", "gpu_efficientnet_b0")
QUICK = (
    "data=synthetic:0,train=96,test=64,size=32", "train.epochs=1", "train.warmup_epochs=0", "train.batch=32", "train.precision=fp32",
    "benchmark.baseline=eager", "benchmark.max_time_s=2", "benchmark.min_blocks=2", "benchmark.block_ms=5",
    "benchmark.batch=4", "variants.compiled.target=torch-eager",
    "variants.pruned-int8.steps.1.distill={epochs: 1, batch: 32, precision: fp32}",
    "variants.sparse24-fp16.steps.1.distill={epochs: 1, batch: 32, precision: fp32}",
)  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_precisions_and_targets_are_planned(name: str) -> None:
    recipe = load_recipe(find_recipe(name))
    stages = plan(recipe).stages
    builds = {stage.name.partition(".")[0]: stage.config for stage in stages if stage.command == "build"}
    asked = {variant: (one.target, one.precision) for variant, one in builds.items()}
    assert asked["trt-fp16"] == ("tensorrt", "fp16")
    assert asked["trt-tf32"] == ("tensorrt", "tf32")
    assert asked["trt-fp8"] == ("tensorrt", "fp8")
    assert asked["rtx-fp16"] == ("tensorrt-rtx", "fp16")
    assert builds["sparse24-fp16"].sparse
    plans = [one for one in builds.values() if one.target in ("tensorrt", "tensorrt-rtx")]
    assert {one.batch for one in plans} == {recipe.benchmark_config().batch}  # which the engines must take
    assert {variant.engine for variant in recipe.variants.values()} >= {
        "torch-eager", "torch-compile", "ort-cuda", "ort-trt", "tensorrt", "tensorrt-rtx",
    }  # fmt: skip
    assert recipe.baseline == "fp32"


@pytest.mark.slow
@pytest.mark.skipif(gpu_or_none() is not None, reason="there is a GPU here")
@pytest.mark.skipif(missing_library("CUDAExecutionProvider") is None, reason="the CUDA provider loads here")
def test_without_a_gpu_each_variant_is_left_out_with_its_reason(tmp_path: Path) -> None:
    result = run(find_recipe("gpu_mobilenetv2"), tmp_path / "run", RunConfig(changes=QUICK))
    assert result.report is not None
    variants = {one.name: one for one in result.report.variants}
    status = {name: one.status for name, one in variants.items()}
    assert status["eager"] == "ok"
    for name, reason in {
        "fp16": "CUDAExecutionProvider does not load (lib",
        "ort-trt-int8": "does not load (libnvinfer.so.10",
        "rtx-fp16": "no NVIDIA driver is found",
    }.items():
        assert status[name] == "skipped"
        assert reason in variants[name].reason
    assert variants["rtx-fp16"].artifact.bytes > 1000  # it was built, ahead of time
    made = {stage.name: stage.status for stage in result.stages}
    for name in ("pruned-fp16.prune", "sparse24-fp16.prune", "ort-trt-int8.quantize", "trt-int8.quantize"):
        assert made[name] == "skipped"  # nothing is trained or calibrated for what cannot run here
    assert "sparse24-fp16.distill" not in made
