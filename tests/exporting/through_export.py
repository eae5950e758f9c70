"""A network of a test module through ``deploykit.export``, as user code, and how near its file is to PyTorch."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn

from deploykit.base.progress import SILENT, Progress
from deploykit.commands.export import ExportResult, export


def exported(
    arch: str, folder: Path, size: int = 32, *, progress: Progress = SILENT, **options: object
) -> ExportResult:
    """Export ``arch`` (``package.module:factory``)."""
    torch.save(built(arch).state_dict(), folder / "net.pt")
    torch.manual_seed(1)  # what a factory draws after this is loaded over
    return export(folder / "net.pt", arch=arch, allow_code=True, size=size, progress=progress, **options)


def built(arch: str) -> nn.Module:
    """The network, with numbers in its statistics too."""
    module, _, factory = arch.partition(":")
    torch.manual_seed(0)
    net = getattr(importlib.import_module(module), factory)().eval()
    for one in net.modules():
        if isinstance(one, nn.BatchNorm2d) and one.running_mean is not None:
            one.running_mean.normal_()
            one.running_var.uniform_(0.5, 2)
    return net


def nearness_db(arch: str, result: ExportResult, size: int = 32) -> float:
    """The least SNR of any output at batch 1, 3 and 5, against the network run eagerly."""
    net, worst = built(arch), 200.0
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(str(result.output), options, providers=["CPUExecutionProvider"])
    for batch in (1, 3, 5):
        x = torch.randn(batch, 3, size, size)
        with torch.inference_mode():
            answer = net(x)
        right = [answer] if isinstance(answer, Tensor) else list(answer)
        for mine, theirs in zip(right, session.run(None, {"input": x.numpy()}), strict=True):
            noise = float(((mine.double().numpy() - theirs) ** 2).sum())
            worst = min(worst, 10 * np.log10(float((mine.double() ** 2).sum()) / noise) if noise else 200.0)
    return worst
