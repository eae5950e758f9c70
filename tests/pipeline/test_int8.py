"""A recipe with a quantize step: int8 beside the float file it was made from."""

from __future__ import annotations

from pathlib import Path

from deploykit.base.artifact import read_manifest
from deploykit.pipeline import run

RECIPE = """\
version: 1
name: small
data: digits
model: {arch: deploykit:resnet, kwargs: {depth: 8, widths: [16, 32, 64], stem_stride: 2}}
train: {epochs: 3, threads: 1}
variants:
  fp32: {target: ort-cpu}
  int8: {from: fp32, target: ort-cpu, steps: [{quantize: {images: 64, method: mse, force_int8: true}}]}
benchmark: {images: 100, max_time_s: 0.5, min_blocks: 2, block_ms: 5, end_to_end: false}
"""


def test_int8_is_a_variant_with_its_own_stage(tmp_path: Path) -> None:
    recipe, folder = tmp_path / "small.yaml", tmp_path / "run"
    recipe.write_text(RECIPE)
    result = run(recipe, folder)
    assert [one.name for one in result.stages] == ["model.train", "fp32.export", "int8.quantize", "all.benchmark"]
    assert result.report is not None
    int8 = next(one for one in result.report.variants if one.name == "int8")
    assert (int8.status, int8.precision) == ("ok", "int8")
    assert int8.audit["int8_convs"] == int8.audit["convs"] > 5
    assert [step.stage for step in int8.steps] == ["train", "export", "quantize", "benchmark"]
    assert int8.artifact.path == "artifacts/int8.onnx"
    assert int8.artifact.bytes < 0.5 * result.report.variants[0].artifact.bytes
    assert (folder / "stages" / "int8.quantize.yaml").is_file()
    manifest = read_manifest(folder / "artifacts" / "int8.onnx")
    assert manifest is not None
    assert [parent.path for parent in manifest.parents] == ["fp32.onnx", None]
    again = run(recipe, folder)
    assert {one.status for one in again.stages} == {"kept"}
