"""The recipe for ResNet-50, executed on a tiny folder made like ImageNet's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploykit.config.run import RunConfig
from deploykit.pipeline import run
from deploykit.reporting import read_report

RECIPE = Path(__file__).parents[2] / "recipes" / "resnet50_prune_distill.yaml"
CHANGES = (
    "model.file=resnet50.pth",
    "model.size=64",
    "data=pictures",
    "variants.pruned50.steps.0.prune.images=16",
    "variants.pruned50.steps.1.distill.epochs=1",
    "variants.pruned50.steps.1.distill.warmup_epochs=0",
    "variants.pruned50.steps.1.distill.batch=8",
    "variants.pruned50.steps.1.distill.precision=fp32",
    "variants.int8.steps.0.quantize.images=16",
    "variants.pruned50-int8.steps.0.quantize.images=16",
    "benchmark={images: 16, max_time_s: 1, min_blocks: 2, block_ms: 5, end_to_end: false}",
)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_resnet50_runs_on_a_tiny_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from PIL import Image
    from torchvision.models import resnet50

    from deploykit.data import synthetic_images

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.manual_seed(0)
    torch.save(resnet50(num_classes=4).state_dict(), tmp_path / "resnet50.pth")
    images = synthetic_images(64, (80, 96), seed=0)
    for number, image in enumerate(images):
        split, label = "train" if number % 4 else "val", f"n{number // 4 % 4:08d}"
        place = tmp_path / "pictures" / split / label
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(image)).save(place / f"{number:03d}.png")
    result = run(RECIPE, config=RunConfig(changes=CHANGES))
    report = read_report(result.folder / "report.json")
    variants = {variant.name: variant for variant in report.variants}
    assert list(variants) == ["eager", "fp32", "int8", "pruned50", "pruned50-int8"]
    assert variants["pruned50"].status == "ok", variants["pruned50"].reason
    assert variants["pruned50"].macs <= 0.5 * variants["fp32"].macs
    stages = [step.stage for step in variants["pruned50"].steps]
    assert stages[:4] == ["load", "prune", "distill", "export"]
