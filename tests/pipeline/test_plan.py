"""A recipe becomes stages: each once, in an order in which they can run."""

from __future__ import annotations

from deploykit.config.build import BuildConfig
from deploykit.config.distill import DistillConfig
from deploykit.config.export import ExportConfig
from deploykit.config.recipe_read import parse_recipe
from deploykit.pipeline.plan import Plan, plan

HEAD = "version: 1\nname: small\ndata: digits\nvariants:\n  fp32: {target: ort-cpu}\n"


def planned(variants: str) -> Plan:
    return plan(parse_recipe(HEAD + variants, "r.yaml"))


def chain(found: Plan, variant: str) -> list[str]:
    return [stage.name for stage in found.chain(variant)]


def test_a_chain_of_all_steps_exports_by_itself() -> None:
    found = planned(
        "  small: {target: ort-cpu, steps: [{prune: {macs: 0.5}}, {distill: {}}, {quantize: {}}]}\n",
    )
    assert chain(found, "small") == ["model.train", "small.prune", "small.distill", "small.export", "small.quantize"]
    outputs = {stage.name: stage.output.as_posix() for stage in found.stages}
    assert outputs["small.prune"] == "artifacts/small.prune.pt"
    assert outputs["small.distill"] == "artifacts/small.pt"
    assert outputs["small.export"] == "artifacts/small.onnx"
    assert outputs["small.quantize"] == "artifacts/small.int8.onnx"


def test_pruning_and_recovering_in_turns() -> None:
    steps = "[{prune: {macs: 0.7}}, {distill: {}}, {prune: {macs: 0.7}}, {distill: {}}]"
    found = planned(f"  small: {{target: torch-eager, steps: {steps}}}\n")
    assert chain(found, "small") == ["model.train", "small.prune", "small.distill", "small.prune2", "small.distill2"]
    assert len({stage.output for stage in found.stages}) == len(found.stages)


def test_what_two_variants_need_is_made_once() -> None:
    found = planned(
        "  small: {target: ort-cpu, steps: [{prune: {macs: 0.5}}]}\n"
        "  same: {target: torch-eager, steps: [{prune: {macs: 0.5}}]}\n"
        "  small8: {from: small, target: ort-cpu, steps: [{quantize: {}}]}\n"
    )
    assert chain(found, "same") == ["model.train", "small.prune"]
    assert chain(found, "small8") == ["model.train", "small.prune", "small.export", "small8.quantize"]


def test_training_for_int8_starts_from_the_model_file_and_is_then_written_out() -> None:
    found = planned(
        "  small: {target: ort-cpu, steps: [{prune: {macs: 0.5}}]}\n"
        "  qat: {from: small, target: ort-cpu, steps: [{quantize: {method: qat}}]}\n"
    )
    assert chain(found, "qat") == ["model.train", "small.prune", "qat.qat", "qat.quantize"]
    assert [stage.state for stage in found.chain("qat")] == ["model", "model", "qat", "int8"]


def test_a_variant_teaches_another_and_comes_before_it() -> None:
    found = planned(
        "  late: {target: ort-cpu, steps: [{prune: {macs: 0.3}}, {distill: {teachers: [model, early]}}]}\n"
        "  early: {target: ort-cpu, steps: [{prune: {macs: 0.6}}, {distill: {}}]}\n"
    )
    names = [stage.name for stage in found.stages]
    assert names.index("early.distill") < names.index("late.distill")
    [late] = [stage for stage in found.stages if stage.name == "late.distill"]
    assert isinstance(late.config, DistillConfig)
    assert late.teachers == {"model": "model.train", "early": "early.distill"}
    assert late.needs == ("late.prune", "model.train", "early.distill")


def test_tensorrt_variants_build_their_engine_from_the_quantized_file() -> None:
    found = planned("  trt: {target: tensorrt, precision: fp16, steps: [{quantize: {}}]}\n")
    assert chain(found, "trt") == ["model.train", "fp32.export", "trt.quantize", "trt.build"]
    build = found.chain("trt")[-1]
    assert build.output.as_posix() == "artifacts/trt.engine"
    assert isinstance(build.config, BuildConfig)
    assert (build.config.target, build.config.precision) == ("tensorrt", "fp16")


def test_a_precision_of_onnx_runtime_is_cast_from_the_float_file_or_at_the_export() -> None:
    found = planned(
        "  half: {from: fp32, target: ort-cuda, precision: fp16}\n"
        "  bf: {target: ort-cuda, precision: bf16, steps: [{export: {opset: 18}}]}\n"
    )
    assert chain(found, "half") == ["model.train", "fp32.export", "half.export"]
    assert chain(found, "bf") == ["model.train", "bf.export"]
    for name, precision in (("half", "fp16"), ("bf", "bf16")):
        config = found.chain(name)[-1].config
        assert isinstance(config, ExportConfig)
        assert (config.precision, config.data) == (precision, "digits")


def test_a_variant_that_starts_from_one_with_an_engine_starts_from_its_onnx_file() -> None:
    """What the check of the recipe says and what is planned are the same walk."""
    found = planned(
        "  trt: {target: tensorrt}\n"
        "  same: {from: trt, target: tensorrt}\n"
        "  half: {from: trt, target: tensorrt, precision: fp16}\n"
        "  int8: {from: trt, target: ort-cpu, steps: [{quantize: {}}]}\n"
    )
    assert chain(found, "same") == chain(found, "trt") == ["model.train", "fp32.export", "trt.build"]
    assert chain(found, "half") == ["model.train", "fp32.export", "half.build"]
    assert chain(found, "int8") == ["model.train", "fp32.export", "int8.quantize"]
