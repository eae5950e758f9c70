"""What each criterion is worth: three seeds, 30 % of the MACs, after BatchNorm re-calibration and after one epoch of training.

A short run on purpose: a network trained for few epochs on few pictures tells criteria apart before training more than after.
Everything made is kept in pytest's cache folder, so that an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.benchmarks.results import publish, table, told, where_measured

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]

SEEDS = (0, 1, 2)
MACS = 0.3
NETWORK = {"depth": 14, "widths": [32, 64, 128], "stem_stride": 2}
EPOCHS, TRAIN, TEST = 8, 6000, 4000
WAYS = (
    *((name, "local") for name in ("l2", "l1", "bn-scale", "fpgm", "taylor", "hessian", "activation", "random")),
    ("l2", "global"),
    ("l2", "isomorphic"),
    ("lamp", "global"),
    ("taylor", "global"),
)


def _top1(path: Path, data: str) -> float:
    """Top-1 in percent on all test pictures."""
    from deploykit.data import open_data
    from deploykit.models import load_model

    loaded = load_model(path)
    right = 0
    with torch.inference_mode():
        for x, y in open_data(data).split("test").batches(200, loaded.preprocessing):
            right += int((loaded.module(torch.from_numpy(x)).argmax(1).numpy() == y).sum())
    return 100 * right / TEST


def _one(teacher: Path, data: str, way: tuple[str, str], seed: int, folder: Path) -> tuple[float, float]:
    """Top-1 of the pruned network after re-calibration, and after one epoch."""
    from deploykit.commands.prune import prune
    from deploykit.commands.train import train
    from deploykit.config.prune import PruneConfig
    from deploykit.config.train import ModelConfig, TrainConfig

    importance, scope = way
    config = PruneConfig(macs=MACS, data=data, importance=importance, scope=scope, seed=seed, threads=1, images=512)
    pruned = prune(teacher, folder / f"{importance}-{scope}.pt", config).output
    tuned = folder / f"{importance}-{scope}.tuned.pt"
    train(
        tuned, TrainConfig(model=ModelConfig(weights=str(pruned)), data=data, epochs=1, lr=0.02, seed=seed, threads=1)
    )
    return _top1(pruned, data), _top1(tuned, data)


def test_criteria(request: pytest.FixtureRequest) -> None:
    from deploykit.commands.train import train
    from deploykit.config.train import ModelConfig, TrainConfig

    where = where_measured("torch", "numpy")
    found: dict[tuple[str, str], list[tuple[float, float]]] = {way: [] for way in WAYS}
    whole = []
    for seed in SEEDS:
        folder = Path(request.config.cache.mkdir(f"prune_criteria_{seed}"))
        data = f"synthetic:{seed},train={TRAIN},test={TEST}"
        model = ModelConfig(arch="deploykit:resnet", kwargs=NETWORK)
        teacher = train(
            folder / "model.pt", TrainConfig(model=model, data=data, epochs=EPOCHS, seed=seed, threads=1)
        ).output
        whole.append(_top1(teacher, data))
        for way in WAYS:
            found[way].append(_one(teacher, data, way, seed, folder))
            print(seed, way, found[way][-1], flush=True)
    rows: list[dict[str, Any]] = []
    for (importance, scope), values in found.items():
        recalibrated, tuned = np.array(values).T
        rows.append(
            {"importance": importance, "scope": scope, "recalibrated": recalibrated.tolist(), "tuned": tuned.tolist()}
        )
    rows.sort(key=lambda row: -float(np.mean(row["tuned"])))
    text = (
        f"# Criteria at {MACS:.0%} of the MACs\n\nTop-1 in % on {TEST} test pictures of `synthetic:`, mean of {len(SEEDS)} seeds "
        f"(each seed); one picture set and network per seed, trained {EPOCHS} epochs on {TRAIN} pictures to "
        f"{np.mean(whole):.2f} ({', '.join(f'{one:.2f}' for one in whole)}). Differences of a point are within what the test pictures decide.\n\n"
        f"{told(where)}\n\n"
    )
    text += table(
        ["importance", "scope", "re-calibrated", "after one epoch"],
        [
            [
                row["importance"],
                row["scope"],
                *(
                    f"{np.mean(v):.2f} ({', '.join(f'{x:.2f}' for x in v)})"
                    for v in (row["recalibrated"], row["tuned"])
                ),
            ]
            for row in rows
        ],
    )
    publish("prune_criteria", {"where": where, "seeds": list(SEEDS), "macs": MACS, "whole": whole, "rows": rows}, text)
    mean = {(row["importance"], row["scope"]): float(np.mean(row["recalibrated"])) for row in rows}
    assert mean["l2", "local"] > mean["random", "local"]
