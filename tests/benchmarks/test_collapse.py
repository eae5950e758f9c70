"""The constructed collapse and its recovery, on a MobileNetV2 trained on ``synthetic:0`` and 20,000 test pictures.

After folding BatchNorm every pair of convolutions of the trained network is rescaled by 10^U(-1, 1) for each channel,
the bounds of ReLU6 with them, so that the float function is the same. Weights have a scale for each output channel.
The trained network is kept in pytest's cache folder, so that a second run only quantizes and judges.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.quantization.test_equalize import spoil

pytestmark = [pytest.mark.bench, pytest.mark.timeout(5400)]

DATA = "synthetic:0"
NETWORK = {"width": 0.5, "stem_stride": 2}
EPOCHS, SEED, IMAGES = 8, 0, 256
WITHIN_PT = 0.5
RESULTS = Path(__file__).parents[2] / "recipes" / "results"


def _trained(folder: Path) -> Path:
    """The trained network as ONNX; nothing is trained again where the same was."""
    from deploykit.commands.export import export
    from deploykit.commands.train import train
    from deploykit.config.export import ExportConfig
    from deploykit.config.train import ModelConfig, TrainConfig

    model = ModelConfig(arch="deploykit:mobilenetv2", kwargs=NETWORK)
    config = TrainConfig(model=model, data=DATA, epochs=EPOCHS, lr=0.1, seed=SEED, threads=1)
    made = train(folder / "net.pt", config)
    return export(made.output, folder / "net.onnx", ExportConfig(data=DATA)).output


def _collapsed(source: Path, path: Path) -> Path:
    proto = onnx.load(source)
    spoiled = ir.to_proto(spoil(proto, SEED))
    if not spoiled.metadata_props:
        spoiled.metadata_props.extend(proto.metadata_props)
    onnx.save(spoiled, path)
    return path


def _quantized(source: Path, path: Path, *, recover: bool) -> tuple[Path, dict]:
    """Through the command with its defaults; without recovery through the quantizer, since the command refuses that."""
    from deploykit.commands.quantize import quantize
    from deploykit.config.quantize import QuantizeConfig

    config = QuantizeConfig(data=DATA, images=IMAGES)
    if recover:
        made = quantize(source, path, config, force=True)
        return made.output, made.facts | made.measured
    return _without_recovery(source, path, config)


def _without_recovery(source: Path, path: Path, config) -> tuple[Path, dict]:
    from deploykit.base.progress import SILENT
    from deploykit.config.registries import RANGE_METHODS
    from deploykit.data import prepare as prepare_pictures
    from deploykit.evaluation.graph_runner import Opened
    from deploykit.quantization.calibrate import observed
    from deploykit.quantization.calibration_images import calibration_pictures
    from deploykit.quantization.job import Job
    from deploykit.quantization.qdq.dialects import ORT_CPU
    from deploykit.quantization.qdq.prepare import prepare
    from deploykit.quantization.search import Choice, Quantizer, choose_ranges, nearness_db

    opened = Opened(path.parent, threads=1)
    images = calibration_pictures(config, SILENT)
    with opened.runner(source) as reference:
        proto, wide = onnx.load(source), prepare(onnx.load(source))
        preprocessing = reference.preprocessing
        seen = observed(wide, preprocessing, Job(config, ORT_CPU, images, opened, SILENT))
        x = prepare_pictures(images.chosen, preprocessing)
        logits = reference(x)
    quantizer = Quantizer(proto, seen)

    def nearness(graphs: Mapping[str, onnx.ModelProto]) -> dict[str, float]:
        return {name: nearness_db([logits], [opened.logits(graph, x)]) for name, graph in graphs.items()}

    choice, _ = choose_ranges(quantizer, Choice(), tuple(RANGE_METHODS), nearness)
    made = quantizer.make(choice)
    made.metadata_props.extend(proto.metadata_props)
    onnx.save(made, path)
    return path, {}


def _logits(path: Path, split) -> np.ndarray:
    from deploykit.engines import open_runner
    from deploykit.evaluation.run_classifier import collect_logits

    with open_runner(path, threads=1) as runner:
        return collect_logits(runner, split, 64)


def test_collapse(request, tmp_path):
    from deploykit.base.environment import cpu, library_versions
    from deploykit.data import open_data
    from deploykit.quantization.search import snr_db
    from deploykit.stats.paired import bootstrap_mean

    trained = _trained(Path(request.config.cache.mkdir("collapse")))
    split = open_data(DATA).split("test")
    collapsed = _collapsed(trained, tmp_path / "collapsed.onnx")
    healthy, facts = _quantized(trained, tmp_path / "healthy.int8.onnx", recover=True)
    broken, _ = _quantized(collapsed, tmp_path / "broken.int8.onnx", recover=False)
    recovered, recovery = _quantized(collapsed, tmp_path / "recovered.int8.onnx", recover=True)
    files = {
        "float": trained,
        "int8": healthy,
        "rescaled, float": collapsed,
        "rescaled, int8 without recovery": broken,
        "rescaled, int8, recovered automatically": recovered,
    }
    logits = {name: _logits(path, split) for name, path in files.items()}
    right = {name: found.argmax(1) == split.labels for name, found in logits.items()}
    rows = []
    for name in files:
        drop = right["float"].astype(float) - right[name]
        low, high = bootstrap_mean(drop)
        rows.append(
            {
                "network": name,
                "top1": float(right[name].mean()),
                "drop_pt": 100 * float(drop.mean()),
                "drop_pt_low": 100 * low,
                "drop_pt_high": 100 * high,
                "snr_db": None if name == "float" else round(snr_db(logits["float"], logits[name]), 2),
            }
        )
    result = {
        "benchmark": "collapse",
        "network": f"deploykit:mobilenetv2 width {NETWORK['width']}, stem stride {NETWORK['stem_stride']}, 32 px, {EPOCHS} epochs",
        "data": {"name": DATA, "split": "test", "n": len(split), "sha256": split.sha256},
        "calibration_images": IMAGES,
        "within_pt": WITHIN_PT,
        "recovery": recovery["recovery"],
        "healthy_speedup": facts["speedup"],
        "recovered_speedup": recovery["speedup"],
        "machine": cpu(),
        "libraries": library_versions(("onnxruntime", "onnxruntime-gpu", "torch", "numpy", "deploykit")),
        "rows": rows,
    }
    text = _table(result)
    print("\n" + text)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "collapse.json").write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "collapse.md").write_text(text)
    found = {row["network"]: row for row in rows}
    assert found["rescaled, float"]["snr_db"] > 80, "the rescaling keeps the function"
    assert found["rescaled, int8 without recovery"]["drop_pt"] > 5
    assert found["rescaled, int8, recovered automatically"]["drop_pt"] <= WITHIN_PT


def _table(result) -> str:
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["libraries"].items())
    lines = [
        "# The constructed collapse and its recovery",
        "",
        f"{result['network']}, trained on {result['data']['name']}; top-1 on {result['data']['n']:,} test pictures, the drop is",
        "paired, picture by picture, with its 95 % interval. Each pair of convolutions is rescaled by 10^U(−1, 1) a channel",
        "after BatchNorm is folded, bounds of ReLU6 with them; weights have one scale for each output channel. Recovery is",
        f"what `deploykit quantize` chose by itself: {result['recovery']['equalization']}.",
        "",
        f"{machine['model']}, {machine['cores']} cores, {', '.join(machine['isa'])}. {versions}.",
        "",
        "| network | top-1 % | drop, points | interval | logits SNR dB |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for row in result["rows"]:
        interval = f"{row['drop_pt_low']:.2f} … {row['drop_pt_high']:.2f}"
        snr = "" if row["snr_db"] is None else f"{row['snr_db']:.1f}"
        lines.append(f"| {row['network']} | {100 * row['top1']:.2f} | {row['drop_pt']:.2f} | {interval} | {snr} |")
    return "\n".join(lines) + "\n"
