"""Run folders whose raw samples, logits and report fit together: invented times and answers, real statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

OF = {"scenario": "single_stream", "batch": 1, "threads": 1, "timed": "compute", "clock": "host"}
CLASSES = 10


def times(seed: int, factor: float, rounds: int, spread: float) -> dict[int, np.ndarray]:
    """round → samples in ms; rounds of one seed share their drift."""
    drift = np.exp(np.random.default_rng(1).normal(0, 0.02, rounds).cumsum())
    generator = np.random.default_rng(seed)
    centre = 0.5 * factor * drift * np.exp(generator.normal(0, spread, rounds))
    return {number: middle * np.exp(generator.normal(0, 0.01, 7)) for number, middle in enumerate(centre)}


def logits_of(predicted: np.ndarray, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).normal(0, 0.1, (len(predicted), CLASSES)).astype(np.float32)
    made[np.arange(len(predicted)), predicted] += 5
    return made


def answers(n: int, lost: int = 0, won: int = 0, wrong: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels of ``n`` images: the baseline gets the first ``wrong`` wrong; of these the variant wins
    ``won``, and loses the last ``lost``."""
    labels = np.arange(n) % CLASSES
    predicted = labels.copy()
    predicted[won:wrong] = (labels[won:wrong] + 1) % CLASSES
    predicted[n - lost :] = (labels[n - lost :] + 1) % CLASSES
    return predicted, labels


def run_folder(
    folder: Path,
    variants: dict[str, dict[str, Any]],
    *,
    n: int = 450,
    rounds: int = 60,
    spread: float = 0.01,
    sha256: str = "3f8a" * 16,
    baseline: str = "fp32",
) -> Path:
    """A run folder as ``deploykit benchmark -o`` leaves it, with a manifest.

    Args:
        folder: made.
        variants: name → ``factor`` of time, ``lost`` and ``won`` images, and ``fields`` that replace the report's.
        n: images; 0 for none.
        rounds: of the timing; 0 for none.
        spread: of block medians, in log.
        sha256: of the data.
        baseline: variant.
    """
    from deploykit.base.artifact import Manifest, files_of, write_manifest
    from deploykit.evaluation.accuracy import accuracy
    from deploykit.evaluation.agreement import agreement
    from deploykit.evaluation.logits import SavedLogits, save_logits
    from deploykit.reporting import validate, write_report
    from deploykit.stats.percentiles import percentile
    from deploykit.stats.ratio import speed_up, speed_up_interval

    for part in ("samples", "logits"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    blocks = {name: times(k, one.get("factor", 1.0), rounds, spread) for k, (name, one) in enumerate(variants.items())}
    base_logits = logits_of(answers(n)[0]) if n else None
    made = []
    for name, one in variants.items():
        fields: dict[str, Any] = {"name": name, "target": "ort-cpu", "precision": "fp32", "status": "ok"}
        fields["artifact"] = {"path": f"artifacts/{name}.onnx", "sha256": "ab" * 32, "bytes": 1_000_000}
        fields |= {"peak_memory_bytes": 100_000_000, "cold_start_ms": 40.0}
        fields["parity"] = {"reference": "eager", "n": 128, "snr_db": 41.0, "ok": True}
        fields["audit"] = {"convs": 15, "int8_convs": 15}
        if n:
            predicted, labels = answers(n, one.get("lost", 0), one.get("won", 0))
            logits = base_logits if name == baseline else logits_of(predicted, one.get("seed", 1))
            save_logits(folder / f"logits/{name}.npz", SavedLogits(logits, labels, sha256))
            fields["accuracy"] = accuracy(logits, labels) | {"logits_file": f"logits/{name}.npz"}
            if name != baseline:
                fields["accuracy"] |= agreement(logits, base_logits, labels)
        if rounds:
            mine = blocks[name]
            samples = np.concatenate(list(mine.values()))
            owners = np.repeat(list(mine), [len(part) for part in mine.values()])
            np.savez(folder / f"samples/{name}.npz", samples_ms=samples, round=owners.astype(np.int32))
            fields["measurements"] = [
                {
                    **OF,
                    "n": len(samples),
                    "blocks": rounds,
                    "p50_ms": percentile(samples, 0.5),
                    "p90_ms": percentile(samples, 0.9),
                    "p99_ms": percentile(samples, 0.99),
                    "mean_ms": float(samples.mean()),
                    "samples_file": f"samples/{name}.npz",
                }
            ]
            if name != baseline and baseline in blocks:
                slow = np.array([np.median(part) for part in blocks[baseline].values()])
                fast = np.array([np.median(part) for part in mine.values()])
                speed = speed_up(slow, fast)
                low, high = speed_up_interval(slow, fast) if rounds >= 5 else (None, None)
                fields["speedup"] = {"estimate": speed, "low": low, "high": high, "of": OF}
        made.append({**fields, **one.get("fields", {})})
    report = {
        "schema": "deploykit.report/2",
        "created": "2026-03-14T09:26:53+00:00",
        "environment": {"cpu": {"model": "Made CPU", "cores": 4}},
        "data": {"name": "digits", "split": "test", "n": n, "sha256": sha256} if n else None,
        "baseline": baseline if baseline in variants else None,
        "noise_floor_ratio": 0.006,
        "variants": made,
    }
    write_report(validate(report), folder)
    write_manifest(folder / "report.json", Manifest("report", files_of(folder / "report.json"), "benchmark", 1))
    return folder
