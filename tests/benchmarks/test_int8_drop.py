"""What int8 costs in top-1 on 20,000 test pictures of ``synthetic:0``: a residual network and a MobileNetV2 trained on it.

The networks are kept in pytest's cache folder (those of the distillation and collapse benchmarks where they are there).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.results import publish, table, told, where_measured

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

DATA, IMAGES, MOST_PT = "synthetic:0", 256, 0.3


def _networks(cache: Any, folder: Path) -> dict[str, Path]:
    """Name → the trained network as ONNX; one that was trained so by an earlier version of deploykit will do."""
    from deploykit.base.artifact import is_unmodified, read_manifest
    from deploykit.commands.export import export
    from deploykit.config.export import ExportConfig
    from tests.benchmarks.synthetic_net import trained_teacher
    from tests.benchmarks.test_qat import _network

    place = Path(cache.mkdir("distill"))
    kept = place / "teacher.pt"
    manifest = read_manifest(kept) if kept.is_file() else None
    teacher = kept if manifest is not None and is_unmodified(kept, manifest) else trained_teacher(place)
    resnet = export(teacher, folder / "resnet.onnx", ExportConfig()).output
    return {"ResNet": resnet, "MobileNetV2": _network(Path(cache.mkdir("collapse")))}


def test_int8_drop(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    from deploykit.commands.evaluate import evaluate
    from deploykit.commands.quantize import quantize
    from deploykit.config.evaluate import EvaluateConfig
    from deploykit.config.quantize import QuantizeConfig

    where = where_measured("torch", "onnxruntime-gpu", "onnxruntime", "numpy")
    found: dict[str, Any] = {}
    for name, fp32 in _networks(request.config.cache, tmp_path).items():
        int8 = quantize(fp32, tmp_path / f"{name}.int8.onnx", QuantizeConfig(data=DATA, images=IMAGES))
        judged = evaluate([f"fp32={fp32}", f"int8={int8.output}"], None, EvaluateConfig(data=DATA, threads=1))
        _, second = judged.to_dict()["variants"]
        accuracy = second["accuracy"]
        keys = ("n", "top1", "drop_pt", "drop_pt_low", "drop_pt_high", "agreement")
        found[name] = {key: accuracy[key] for key in keys} | {"choice": int8.facts["choice"]}
    rows = [
        [
            name,
            str(one["n"]),
            f"{one['top1'] + one['drop_pt'] / 100:.2%}",
            f"{one['top1']:.2%}",
            f"{one['drop_pt']:+.2f} ({one['drop_pt_low']:+.2f} … {one['drop_pt_high']:+.2f})",
            f"{one['agreement']:.2%}",
        ]
        for name, one in found.items()
    ]
    heads = ["network", "pictures", "float top-1", "int8 top-1", "drop, pt", "agreement"]
    text = "\n".join(
        [
            "# What int8 costs on synthetic pictures",
            "",
            told(where),
            f"Trained on {DATA}, quantized by `deploykit quantize` from {IMAGES} training pictures; 95 % paired intervals.",
            "",
            table(heads, rows),
        ]
    )
    publish("int8_drop", {"where": where, "networks": found}, text)
    for name, one in found.items():
        assert one["n"] == 20000, name
        assert one["drop_pt_high"] <= MOST_PT, name
