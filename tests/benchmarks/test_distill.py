"""What distillation is worth over plain fine-tuning, on 20,000 test pictures of ``synthetic:0``, over three seeds.

A ResNet-14 is trained, pruned once to 30 % of its MACs by L2 magnitude with allocated widths, and the pruned network trained for
four epochs with the labels alone and with each of the three losses, from the same weights on the same batches; with KD also
the network that is pruned alike in all layers. Of each seed the trainings share order and augmentation; all is judged picture
by picture. Rates and scope were chosen on other pictures (``synthetic:1``) and another seed (7). Everything trained is kept in
pytest's cache folder, so that an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.results import publish, table, told, where_measured
from tests.benchmarks.synthetic_net import DATA, TEACHER, TOLD, answered_right, interval_pt, trained_teacher

pytestmark = [pytest.mark.bench, pytest.mark.timeout(10800)]

MACS, SEEDS = 0.3, (0, 1, 2)
STUDENT = {"epochs": 4, "lr": 0.02, "threads": 1, "augment": {"shift_px": 3}}
METHODS = ("plain", "plain-fast", "kd", "dkd", "dist", "kd-local")
LOCAL = "-local"  # of networks that keep the same share of every layer
FAST_LR = 0.05  # so that the labels alone are not judged at a rate that suits the others better
WITHIN_PT = 2.5
PROCESSES = 2


def _pruned(teacher: Path, folder: Path, scope: str) -> tuple[Path, dict[str, Any]]:
    from deploykit.commands.prune import prune
    from deploykit.config.prune import PruneConfig

    config = PruneConfig(macs=MACS, data=DATA, scope=scope, threads=1)  # type: ignore[arg-type]
    made = prune(teacher, folder / f"pruned.{scope}.pt", config)
    return made.output, made.facts


def _student(method: str, seed: int, pruned: Path, teacher: Path, folder: Path) -> Path:
    from deploykit.commands.distill import distill
    from deploykit.commands.train import train
    from deploykit.config.distill import DistillConfig
    from deploykit.config.train import ModelConfig, TrainConfig

    output = folder / f"{method}.{seed}.pt"
    if method.startswith("plain"):
        settings = STUDENT | ({"lr": FAST_LR} if method == "plain-fast" else {})
        config = TrainConfig(model=ModelConfig(weights=str(pruned)), data=DATA, seed=seed, **settings)
        return train(output, config).output
    loss = method.removesuffix(LOCAL)
    wanted = DistillConfig(teachers=(str(teacher),), data=DATA, loss=loss, seed=seed, **STUDENT)
    return distill(pruned, output, wanted).output


def test_distill(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploykit.data import open_data
    from deploykit.models import count, load_model

    folder = Path(request.config.cache.mkdir("distill"))
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(folder / "cache"))
    where = where_measured("torch", "torch-pruning", "numpy")
    teacher = trained_teacher(folder)
    pruned, facts = _pruned(teacher, folder, "allocated")
    alike, _ = _pruned(teacher, folder, "local")
    test = open_data(DATA).split("test")
    methods = ("kd", "kd-local", "plain", "plain-fast", "dkd", "dist")  # kd asks the teacher for all
    jobs = [(method, seed, alike if method.endswith(LOCAL) else pruned) for method in methods for seed in SEEDS]
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        made = [pool.submit(_student, method, seed, start, teacher, folder) for method, seed, start in jobs]
        files = {job[:2]: one.result() for job, one in zip(jobs, made, strict=True)}
    right = {method: np.stack([answered_right(files[method, seed], test) for seed in SEEDS]) for method in METHODS}
    reference, cut = answered_right(teacher, test), answered_right(pruned, test)
    named = (("t", teacher), ("p", pruned), ("alike", alike))
    macs = {name: count(load_model(path).module, (32, 32)).macs for name, path in named}
    best_plain = max(("plain", "plain-fast"), key=lambda method: right[method].mean())
    plain = right[best_plain].mean(axis=0)
    rows = [
        {
            "method": method,
            "top1": float(found.mean()),
            "top1_by_seed": [float(one) for one in found.mean(axis=1)],
            "drop": interval_pt(reference - found.mean(axis=0)),
            "over_plain": None if method == best_plain else interval_pt(found.mean(axis=0) - plain),
        }
        for method, found in right.items()
    ]
    result = {
        **where,
        "network": TOLD,
        "data": {"name": DATA, "split": "test", "n": len(test), "sha256": test.sha256},
        "teacher": {"top1": float(reference.mean()), "epochs": TEACHER["epochs"], "macs": macs["t"]},
        "pruned": {"top1": float(cut.mean()), "macs": macs["p"], "kept": macs["p"] / macs["t"], "facts": facts},
        "alike": {"top1": float(answered_right(alike, test).mean()), "kept": macs["alike"] / macs["t"]},
        "student": STUDENT,
        "seeds": list(SEEDS),
        "within_pt": WITHIN_PT,
        "rows": rows,
    }
    publish("distill", result, _text(result))
    kd = next(row for row in rows if row["method"] == "kd")
    assert macs["p"] <= MACS * macs["t"]
    assert kd["over_plain"]["low_pt"] > 0
    assert kd["drop"]["high_pt"] <= WITHIN_PT


def _text(result: dict[str, Any]) -> str:
    def shown(one: dict[str, float] | None) -> str:
        return "–" if one is None else f"{one['estimate_pt']:+.2f} ({one['low_pt']:+.2f} … {one['high_pt']:+.2f})"

    rows = [
        [
            {
                "plain": "labels alone, lr 0.02",
                "plain-fast": "labels alone, lr 0.05",
                "kd": "KD (T 4, alpha 0.9)",
                "kd-local": "KD, pruned alike in all layers",
                "dkd": "DKD (T 1, beta 0.5)",
                "dist": "DIST (T 1, beta 1)",
            }[row["method"]],
            f"{100 * row['top1']:.2f}",
            " / ".join(f"{100 * one:.2f}" for one in row["top1_by_seed"]),
            shown(row["drop"]),
            shown(row["over_plain"]),
        ]
        for row in result["rows"]
    ]
    heads = [
        "trained for 4 epochs with",
        "top-1 %",
        "by seed",
        "drop pt (95 %)",
        "over the better of labels alone pt (95 %)",
    ]
    teacher, pruned, alike = result["teacher"], result["pruned"], result["alike"]
    return "\n".join(
        [
            "# Distillation against plain fine-tuning",
            "",
            f"{result['network']}, on {result['data']['name']}: teacher {100 * teacher['top1']:.2f} % on {result['data']['n']:,} "
            f"test pictures; pruned to {100 * pruned['kept']:.1f} % of its MACs with allocated widths: "
            f"{100 * pruned['top1']:.2f} % with BatchNorm re-estimated (pruned alike in all layers to "
            f"{100 * alike['kept']:.1f} %: {100 * alike['top1']:.2f} %). Mean of {len(result['seeds'])} seeds; intervals are paired over the pictures.",
            "",
            table(heads, rows),
            "",
            told(result),
        ]
    )
