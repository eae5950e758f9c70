"""BatchNorm re-estimation of a model file before it is exported and quantized."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deploykit.base.errors import BadInput
from deploykit.data import map_classes, prepare
from deploykit.quantization.calibration_images import Calibration
from deploykit.quantization.job import Job
from deploykit.stats.paired import mcnemar

if TYPE_CHECKING:
    from deploykit.models import LoadedModel

BATCH = 64
SURE = 0.05


def with_batch_norm(source: Path, job: Job) -> tuple[Path, dict[str, object]]:
    """The model file to go on with, and what was decided.

    ``reestimate`` always takes the new statistics, ``auto`` only where they answer significantly better on ``select``.

    Raises:
        BadInput: an ONNX file or exported program, whose BatchNorm is folded or frozen; a network without BatchNorm.
    """
    config, images = job.config, job.images
    if config.batch_norm == "keep":
        return source, {}
    if source.suffix.lower() in (".onnx", ".pt2"):
        raise BadInput(
            f"BatchNorm of {source} cannot be re-estimated: its graph holds it folded or frozen",
            expected="a model file (.pt, .safetensors)",
            fix="Quantize the model file that it was exported from.",
        )
    from deploykit.models import load_model, save_model
    from deploykit.models.batch_norm import reestimate_batch_norm

    loaded = load_model(source, arch=config.arch, stated=config.stated, allow_code=config.allow_code)
    if loaded.preprocessing is None:
        raise BadInput(f"{source} does not carry its preprocessing", fix="Name the input size with --size.")
    old = _right(loaded, images)
    layers = reestimate_batch_norm(loaded.module, images.batches(BATCH, loaded.preprocessing))
    new = _right(loaded, images)
    facts: dict[str, object] = {"layers": layers, "pictures": len(images.observed)}
    if old is not None and new is not None:
        facts |= {"top1_before": round(float(old.mean()), 6), "top1_after": round(float(new.mean()), 6)}
    facts["kept"] = config.batch_norm == "reestimate" or _clearly_better(old, new)
    shown = f", top-1 on select {old.mean():.4f} → {new.mean():.4f}" if old is not None and new is not None else ""
    job.progress.say(f"BatchNorm {'re-estimated' if facts['kept'] else 'stays as it is'} ({layers} layers){shown}")
    if not facts["kept"]:
        return source, facts
    target = job.scratch / f"{source.stem}.pt"
    classes = loaded.classes or tuple(str(i) for i in range(_outputs(loaded)))
    save_model(
        target,
        loaded.module,
        loaded.arch,
        loaded.preprocessing,
        classes,
        lineage=loaded.lineage,
        samples=loaded.samples,
        masks=loaded.masks,
        ranges=loaded.ranges,
    )
    return target, facts


def _logits(loaded: LoadedModel, images: Calibration) -> np.ndarray:
    import torch

    assert loaded.preprocessing is not None
    found = []
    with torch.no_grad():
        for start in range(0, len(images.chosen), BATCH):
            x = prepare(images.chosen[start : start + BATCH], loaded.preprocessing)
            found.append(loaded.module(torch.from_numpy(x)).numpy())
    return np.concatenate(found)


def _right(loaded: LoadedModel, images: Calibration) -> np.ndarray | None:
    """Which pictures of ``select`` are answered right, or None where they have no labels."""
    if images.labels is None:
        return None
    logits = _logits(loaded, images)
    order, _ = map_classes(loaded.classes, images.classes)
    return (logits if order is None else logits[:, order]).argmax(axis=1) == images.labels


def _clearly_better(old: np.ndarray | None, new: np.ndarray | None) -> bool:
    if old is None or new is None:
        return False
    gained, lost = int((new & ~old).sum()), int((old & ~new).sum())
    return gained > lost and mcnemar(lost, gained) < SURE


def _outputs(loaded: LoadedModel) -> int:
    import torch

    assert loaded.preprocessing is not None
    with torch.no_grad():
        return int(loaded.module(torch.zeros(1, *loaded.preprocessing.shape)).shape[1])
