"""The network that benchmarks on ``synthetic:0`` compress, and how they judge what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

DATA = "synthetic:0"
NETWORK = {"depth": 14, "widths": [32, 64, 128], "stem_stride": 2}
TOLD = "deploykit:resnet depth 14, widths 32-64-128, stem stride 2, 32 px"
TEACHER: dict[str, Any] = {"epochs": 14, "lr": 0.1, "seed": 0, "threads": 1, "augment": {"shift_px": 3}}


def trained_teacher(folder: Path) -> Path:
    """The trained network; what is in ``folder`` already is not trained again."""
    from deploykit.commands.train import train
    from deploykit.config.train import ModelConfig, TrainConfig

    model = ModelConfig(arch="deploykit:resnet", kwargs=NETWORK)
    return train(folder / "teacher.pt", TrainConfig(model=model, data=DATA, **TEACHER)).output


def answered_right(path: Path, split: Any) -> np.ndarray:
    """Which pictures of ``split`` are answered right, bool [n]; kept beside the model."""
    from deploykit.engines import open_runner
    from deploykit.evaluation.run_classifier import collect_logits

    kept = path.with_suffix(".right.npy")
    if kept.exists() and kept.stat().st_mtime > path.stat().st_mtime:
        return np.load(kept)
    with open_runner(path, threads=1, device="cpu") as runner:
        right = collect_logits(runner, split, 64).argmax(1) == split.labels
    np.save(kept, right)
    return right


def interval_pt(values: np.ndarray) -> dict[str, float]:
    """The mean of ``values`` in percentage points with its bootstrap interval."""
    from deploykit.stats.paired import bootstrap_mean

    low, high = bootstrap_mean(values)
    return {"estimate_pt": 100 * float(values.mean()), "low_pt": 100 * low, "high_pt": 100 * high}
