"""Made-up reports to draw and to check: the only place where numbers are invented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

OF = {"scenario": "single_stream", "batch": 1, "threads": 1, "timed": "compute", "clock": "host"}
SHA = "3f8a" * 16

# name, target, precision, p50_ms, top1, drop_pt, size_bytes, snr_db
KNOWN = [
    ("eager", "torch-eager", "fp32", 1.92, 0.9889, 0.0, 2_812_004, None),
    ("fp32", "ort-cpu", "fp32", 0.981, 0.9889, None, 2_790_112, 128.4),
    ("compiled", "torch-compile", "fp32", 1.31, 0.9889, 0.0, 2_812_004, 126.0),
    ("int8", "ort-cpu", "int8", 0.407, 0.9867, 0.22, 741_880, 31.2),
    ("pruned50", "ort-cpu", "fp32", 0.552, 0.9844, 0.44, 1_410_220, 127.1),
    ("pruned50-int8", "ort-cpu", "int8", 0.288, 0.9822, 0.67, 388_410, 29.8),
    ("pruned30-int8", "ort-cpu", "int8", 0.204, 0.9667, 2.22, 241_070, 27.4),
    ("openvino-int8", "openvino", "int8", 0.391, 0.9867, 0.22, 760_010, 30.9),
    ("fp16", "ort-cuda", "fp16", 0.62, 0.9889, 0.0, 1_400_120, 58.8),
    ("trt-fp16", "tensorrt", "fp16", 0.322, 0.9889, 0.0, 1_900_000, 57.7),
    ("trt-int8", "tensorrt", "int8", 0.251, 0.9844, 0.44, 1_100_000, 28.4),
    ("pruned50-trt-int8", "tensorrt", "int8", 0.243, 0.98, 0.89, 800_000, 27.6),
    ("a-variant-with-a-really-long-name-that-someone-typed", "ort-cpu", "fp32", 0.99, 0.9889, 0.0, 2_790_112, 127.0),
    ("bf16", "ort-cpu", "bf16", 1.4, 0.9867, 0.22, 1_400_120, 38.0),
    ("distilled", "ort-cpu", "fp32", 0.45, 0.9911, -0.22, 1_010_000, 127.3),
]


def measurement(name: str, p50: float, timed: str = "compute", samples: bool = True) -> dict[str, Any]:
    return {
        **OF,
        "timed": timed,
        "n": 4200,
        "warmup": 60,
        "blocks": 42,
        "p50_ms": p50,
        "p50_ms_low": p50 * 0.988,
        "p50_ms_high": p50 * 1.013,
        "p90_ms": p50 * 1.07,
        "p99_ms": p50 * 1.31,
        "mean_ms": p50 * 1.02,
        "throughput_per_s": 1000 / (p50 * 1.02),
        "samples_file": f"samples/{name}.npz" if samples and timed == "compute" else None,
    }


def variant(row: tuple[Any, ...], base_p50: float | None, samples: bool = True) -> dict[str, Any]:
    name, target, precision, p50, top1, drop, size, snr = row
    step = {"stage": "export", "output": f"artifacts/{name[:12]}.onnx", "sha256": SHA}
    accuracy = {"n": 450, "top1": top1, "top1_low": top1 - 0.012, "top1_high": min(1.0, top1 + 0.006)}
    accuracy |= {"top5": 0.9996, "macro_f1": top1 - 0.0005, "macro_precision": top1, "macro_recall": top1, "ece": 0.011}
    if drop is not None:
        accuracy |= {"drop_pt": drop, "drop_pt_low": drop - 0.45, "drop_pt_high": drop + 0.46, "agreement": 0.9933}
        accuracy |= {"drop_interval": "score", "negative_flips": 0.0044, "mcnemar_p": 0.5}
    parity = {
        "reference": "eager",
        "n": 256,
        "max_abs": 0.0021,
        "mean_abs": 0.00031,
        "cosine": 0.9999991,
        "snr_db": snr,
    }
    parity |= {"identical": False, "top1_agreement": 1.0, "by_batch": [{"batch": 1, "snr_db": snr}], "ok": True}
    return {
        "name": name,
        "target": target,
        "precision": precision,
        "status": "ok",
        "reason": None,
        "steps": [{"stage": "train", "command": "deploykit train --config stages/train.yaml"}]
        + ([{**step, "command": f"deploykit export --config stages/{name}.export.yaml"}] if snr is not None else []),
        "artifact": {"path": f"artifacts/{name[:12]}.onnx", "sha256": SHA, "bytes": size},
        "params": 696_618,
        "macs": 13_100_000,
        "cold_start_ms": 84.2,
        "peak_memory_bytes": 61_000_000,
        "measurements": [measurement(name, p50, samples=samples), measurement(name, p50 * 1.21, "end_to_end")],
        "speedup": None
        if base_p50 is None
        else {
            "estimate": base_p50 / p50,
            "low": base_p50 / p50 * 0.985,
            "high": base_p50 / p50 * 1.016,
            "of": dict(OF),
        },
        "accuracy": accuracy,
        "parity": None if snr is None else parity,
        "audit": {"convs": 13, "int8_convs": 13 if precision == "int8" else 0},
        "notes": ["2 threads were no faster"] if name == "fp32" else [],
    }


def report(count: int = 6, *, samples: bool = True) -> dict[str, Any]:
    """A settled report of ``count`` variants, ``fp32`` the baseline where there are two or more."""
    from deploykit.reporting import settle, validate

    rows = KNOWN[:count]
    baseline = "fp32" if count > 1 else rows[0][0]
    variants = [variant(row, None if row[0] == baseline else 0.981, samples) for row in rows]
    made = {
        "schema": "deploykit.report/2",
        "created": "2026-03-14T09:26:53+00:00",
        "recipe": "quickstart",
        "environment": {
            "os": "Linux 6.8.0",
            "python": "3.11.9",
            "machine": "x86_64",
            "cpu": {"model": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "cores": 2, "isa": ["avx512_vnni"]},
            "memory_bytes": 8_200_000_000,
            "gpus": [],
            "libraries": {"torch": "2.15.0", "onnxruntime-gpu": "1.31.1", "numpy": "2.4.6"},
        },
        "data": {"name": "digits", "split": "test", "n": 450, "sha256": SHA},
        "ci_level": 0.95,
        "seed": 0,
        "noise_floor_ratio": 0.0061,
        "stop_reason": "every speed-up interval is within ±2 %",
        "warnings": ["the clock frequency changed while timing: 2.1 … 3.4 GHz"],
        "baseline": baseline,
        "variants": variants,
    }
    return settle(validate(made), 1.0).plain()


def hostile(count: int = 4) -> dict[str, Any]:
    """A report whose every text tries to be markup."""
    evil = "<script>alert('x')</script>|`*_[a](javascript:1)\n# @all"
    made = report(count)
    for number, one in enumerate(made["variants"]):
        old, one["name"] = one["name"], f"{evil}{number}"
        one["notes"] = [evil]
        one["steps"] = [{"stage": evil, "command": f"deploykit export {evil}", "output": "a/<b>.onnx"}]
        one["artifact"]["path"] = "artifacts/<script>alert(1)</script>.onnx"
        one["attachments"] = [{"title": evil, "kind": evil, "file": "javascript:alert(1)"}]
        one["audit"] = {evil: evil}
        one["accuracy"]["metrics"] = {evil: 0.5}
        one["accuracy"]["per_class"] = [{"name": evil, "n": 45, "precision": 1.0, "recall": 0.9, "f1": 0.95}]
        made["baseline"] = one["name"] if made["baseline"] == old else made["baseline"]
        made["pareto"] = [one["name"] if name == old else name for name in made["pareto"]]
        if made["pick"] and made["pick"]["name"] == old:
            made["pick"] = {"name": one["name"], "why": evil}
    made["warnings"], made["recipe"], made["stop_reason"] = [evil], evil, evil
    made["environment"] = {evil: evil}
    made["data"]["name"] = evil
    return made


def all_failed() -> dict[str, Any]:
    """A report without a single number."""
    made = report(3)
    for one in made["variants"]:
        one |= {"status": "failed", "reason": "SNR 12.1 dB, expected at least 80 dB; worst image 17"}
        one |= {"measurements": [], "speedup": None, "accuracy": None, "quality": None}
    return made | {"pareto": [], "pick": None}


def write_samples(made: dict[str, Any], folder: Path) -> None:
    """The raw samples that the report names: log-normal with a few late ones."""
    generator = np.random.default_rng(3)
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    for one in made["variants"]:
        for timing in one["measurements"]:
            if timing["samples_file"]:
                body = timing["p50_ms"] * np.exp(generator.normal(0, 0.035, timing["n"]))
                late = timing["p50_ms"] * np.exp(generator.exponential(0.25, timing["n"] // 40))
                np.savez(folder / timing["samples_file"], samples_ms=np.concatenate([body, late]))
