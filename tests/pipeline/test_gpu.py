"""The whole way on a CUDA GPU: train, export, verify, measure."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploykit.config.run import RunConfig
from deploykit.pipeline import run

pytestmark = pytest.mark.gpu

RECIPE = """
version: 1
name: small
data: digits
model: {arch: deploykit:resnet, kwargs: {depth: 8, widths: [16, 32, 64], stem_stride: 2}}
train: {epochs: 4, precision: bf16, threads: 4}
variants:
  eager: {target: torch-eager}
  fp32: {target: "ort-cuda:use_tf32=0"}
  tf32: {target: "ort-cuda:use_tf32=1"}
  cpu: {from: fp32, target: ort-cpu}
benchmark: {baseline: fp32, batch: 8, max_time_s: 4, until: 0.05}
"""


def test_the_way_through_on_cuda(tmp_path: Path) -> None:
    from deploykit.engines.onnxruntime.providers import missing_library

    if (reason := missing_library("CUDAExecutionProvider")) is not None:
        pytest.skip(f"the CUDA provider does not load: {reason}")
    (tmp_path / "small.yaml").write_text(RECIPE)
    result = run(tmp_path / "small.yaml", tmp_path / "run", RunConfig())
    assert result.report is not None
    variants = {variant.name: variant for variant in result.report.variants}
    assert {name: variant.status for name, variant in variants.items()} == dict.fromkeys(variants, "ok")
    assert variants["tf32"].precision == "tf32"
    assert variants["fp32"].parity.snr_db >= 80
    assert variants["fp32"].audit["memcpy_nodes"] == 0
    assert all(variant.measurements[0].clock for variant in variants.values())
