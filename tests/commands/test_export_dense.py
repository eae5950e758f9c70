"""Segmentation and detection networks of torchvision: exported and verified on raw outputs, not evaluated."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from deploykit.base.errors import BadInput
from deploykit.commands.evaluate import evaluate
from deploykit.commands.export import export
from deploykit.commands.verify import verify
from deploykit.config.evaluate import EvaluateConfig
from deploykit.config.export import ExportConfig
from deploykit.config.verify import VerifyConfig

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "size", "outputs"),
    [
        ("lraspp_mobilenet_v3_large", 64, {"out"}),
        ("deeplabv3_mobilenet_v3_large", 64, {"out"}),
        ("ssdlite320_mobilenet_v3_large", 320, {"bbox_regression", "cls_logits"}),
        ("retinanet_resnet50_fpn", 64, {"bbox_regression", "cls_logits"}),
        ("fcos_resnet50_fpn", 64, {"bbox_regression", "cls_logits", "bbox_ctrness"}),
    ],
)
def test_raw_outputs_export_and_verify_and_are_not_evaluated(
    tmp_path: Path, digits_npz: Path, name: str, size: int, outputs: set[str]
) -> None:
    import torch

    from deploykit.models import build

    torch.manual_seed(0)
    model, arch = tmp_path / "dense.pth", f"torchvision:{name}"
    torch.save(build(arch).state_dict(), model)
    result = export(model, config=ExportConfig(arch=arch, size=size))
    assert result.facts["parity"]["ok"]
    assert {value.name for value in onnx.load(result.output).graph.output} == outputs
    again = verify(f"{model}@torch-eager:arch={arch}", result.output, VerifyConfig(size=size, images=8, batches=(1, 3)))
    assert again.ok
    assert {one["output"] for one in again.parity.groups} == outputs
    with pytest.raises(BadInput, match="is no classifier"):
        evaluate([str(result.output)], config=EvaluateConfig(data=str(digits_npz), size=size))
