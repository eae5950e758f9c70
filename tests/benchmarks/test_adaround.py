"""Adaptive rounding against rounding to nearest, on the network of the collapse, at 8, 4 and 3 bits a weight."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from tests.benchmarks.test_collapse import DATA, EPOCHS, NETWORK, RESULTS, _logits, _trained

pytestmark = [pytest.mark.bench, pytest.mark.timeout(5400)]

IMAGES, BITS = 128, (8, 4, 3)


def test_adaround(request, tmp_path):
    from deploykit.base.environment import cpu, library_versions
    from deploykit.base.progress import SILENT
    from deploykit.config.quantize import QuantizeConfig
    from deploykit.data import open_data
    from deploykit.evaluation.graph_runner import Opened
    from deploykit.quantization.calibrate import observed
    from deploykit.quantization.calibration_images import calibration_pictures
    from deploykit.quantization.job import Job
    from deploykit.quantization.qdq.dialects import ORT_CPU
    from deploykit.quantization.qdq.prepare import prepare
    from deploykit.quantization.recovery import adapted, corrected
    from deploykit.quantization.search import Choice, Quantizer, snr_db
    from deploykit.stats.paired import bootstrap_mean

    source = _trained(Path(request.config.cache.mkdir("collapse")))
    split, config = open_data(DATA).split("test"), QuantizeConfig(data=DATA, images=IMAGES, batch=32)
    opened, images = Opened(tmp_path, threads=1), calibration_pictures(config, SILENT)
    proto, choice = onnx.load(source), Choice()
    with opened.runner(source) as reference:
        preprocessing = reference.preprocessing
    seen = observed(prepare(proto), preprocessing, Job(config, ORT_CPU, images, opened, SILENT))
    batches = list(images.batches(config.batch, preprocessing))
    floats = _logits(source, split)
    right = floats.argmax(1) == split.labels
    rows = []

    def judge(bits: int, rounding: str, quantizer: Quantizer, seconds: float) -> None:
        path = tmp_path / "made.onnx"
        made = quantizer.make(choice)
        made.metadata_props.extend(proto.metadata_props)
        onnx.save(made, path)
        logits = _logits(path, split)
        drop = right.astype(float) - (logits.argmax(1) == split.labels)
        low, high = bootstrap_mean(drop)
        rows.append(
            {
                "bits": bits,
                "rounding": rounding,
                "snr_db": round(snr_db(floats, logits), 2),
                "top1": float((logits.argmax(1) == split.labels).mean()),
                "drop_pt": 100 * float(drop.mean()),
                "drop_pt_low": 100 * low,
                "drop_pt_high": 100 * high,
                "seconds": round(seconds, 1),
            }
        )

    for bits in BITS:
        nearest = Quantizer(proto, seen, dialect=replace(ORT_CPU, weight_bits=bits))
        ways = {
            "nearest": lambda q: q,
            "nearest, biases corrected": lambda q: corrected(q, choice, lambda: batches, opened.graph),
            "adaptive": lambda q: adapted(q, choice, lambda: batches, opened.graph),
        }
        for name, way in ways.items():
            before = time.perf_counter()
            made = way(nearest)
            judge(bits, name, made, time.perf_counter() - before)
    result = {
        "benchmark": "adaround",
        "network": f"deploykit:mobilenetv2 width {NETWORK['width']}, stem stride {NETWORK['stem_stride']}, 32 px, {EPOCHS} epochs",
        "data": {"name": DATA, "split": "test", "n": len(split), "sha256": split.sha256},
        "calibration_images": IMAGES,
        "float_top1": float(right.mean()),
        "machine": cpu(),
        "libraries": library_versions(("onnxruntime", "onnxruntime-gpu", "torch", "numpy", "deploykit")),
        "rows": rows,
    }
    text = _table(result)
    print("\n" + text)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "adaround.json").write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "adaround.md").write_text(text)
    found = {(row["bits"], row["rounding"]): row for row in rows}
    assert found[4, "adaptive"]["snr_db"] > found[4, "nearest"]["snr_db"] + 3
    assert found[4, "adaptive"]["drop_pt_high"] < found[4, "nearest"]["drop_pt_low"]


def _table(result) -> str:
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["libraries"].items())
    lines = [
        "# Adaptive rounding against rounding to nearest",
        "",
        f"{result['network']}, trained on {result['data']['name']}; float top-1 {100 * result['float_top1']:.2f} % on",
        f"{result['data']['n']:,} test pictures; {result['calibration_images']} calibration pictures; uint8 activations, one",
        "weight scale for each output channel. The drop is paired, with its 95 % interval.",
        "",
        f"{machine['model']}, {machine['cores']} cores, {', '.join(machine['isa'])}. {versions}.",
        "",
        "| weight bits | rounding | top-1 % | drop, points | interval | logits SNR dB | found in s |",
        "| --: | :-- | --: | --: | --: | --: | --: |",
    ]
    for row in result["rows"]:
        interval = f"{row['drop_pt_low']:.2f} … {row['drop_pt_high']:.2f}"
        lines.append(
            f"| {row['bits']} | {row['rounding']} | {100 * row['top1']:.2f} | {row['drop_pt']:.2f} | {interval} "
            f"| {row['snr_db']:.1f} | {row['seconds']:.0f} |"
        )
    return "\n".join(lines) + "\n"
