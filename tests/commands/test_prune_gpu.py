"""Pruning with the pictures on a GPU: the same widths, statistics and accuracy as on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploykit.commands.prune import prune
from deploykit.config.prune import PruneConfig

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("importance", ["l2", "taylor", "hessian", "activation"])
def test_a_gpu_prunes_as_the_cpu_does(tmp_path: Path, tiny_model: Path, digits_npz: Path, importance: str) -> None:
    import torch

    from deploykit.models import load_model

    made = {}
    for device in ("cpu", "cuda"):
        config = PruneConfig(macs=0.5, data=str(digits_npz), importance=importance, images=128, device=device)
        made[device] = prune(tiny_model, tmp_path / f"{device}.pt", config)
    cpu, cuda = (made[device].facts for device in ("cpu", "cuda"))
    assert cuda["macs"] == cpu["macs"]
    assert cuda["top1_select"]["recalibrated"] == pytest.approx(cpu["top1_select"]["recalibrated"], abs=0.05)
    first, second = (load_model(made[device].output).module.state_dict() for device in ("cpu", "cuda"))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=1e-2, rtol=1e-2)
