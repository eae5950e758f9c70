"""Small networks trained for some seconds on real digits, as modules with the graph they are exported to."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from tests.quantization.trained import digit_pictures


class Squeezed(nn.Module):
    """As in MobileNetV3: expand, depthwise, squeeze-excite by HardSigmoid, HardSwish, project; a skip where it fits."""

    def __init__(self, channels: int, wide: int, stride: int, out: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish())
        self.depthwise = nn.Sequential(
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.Hardswish()
        )
        self.squeeze, self.excite = nn.Conv2d(wide, 16, 1), nn.Conv2d(16, wide, 1)
        self.project = nn.Sequential(nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out))
        self.skips = stride == 1 and channels == out

    def forward(self, x):
        y = self.depthwise(self.expand(x))
        gate = self.excite(torch.relu(self.squeeze(nn.functional.adaptive_avg_pool2d(y, 1))))
        y = self.project(y * nn.functional.hardsigmoid(gate))
        return x + y if self.skips else y


class MobileNetV3(nn.Module):
    """A stem, three such blocks, a head."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.blocks = nn.Sequential(Squeezed(16, 32, 2, 24), Squeezed(24, 48, 1, 24), Squeezed(24, 64, 2, 32))
        self.fc = nn.Linear(32, classes)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


def _built(kind: str) -> nn.Module:
    from deploykit.models import Arch, build

    if kind == "mobilenetv3":
        return MobileNetV3()
    kwargs = {
        "resnet": {"depth": 8, "widths": [16, 32, 64], "stem_stride": 2},
        "mobilenetv2": {"width": 0.25, "stem_stride": 2},
    }
    return build(Arch("deploykit", kind, {"num_classes": 10, **kwargs[kind]}))


@cache
def trained_net(kind: str, steps: int = 80):
    """``module`` (eval), ``proto``, pictures ``x`` float32 [N, 3, 32, 32] and ``labels``; tests must copy the module."""
    x, y = digit_pictures()
    images, labels = torch.from_numpy(x[:1297]), torch.from_numpy(y[:1297])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = _built(kind).train()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, nesterov=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            picked = torch.randint(0, len(images), (48,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(images[picked]), labels[picked]).backward()
            optimizer.step()
            schedule.step()
    return SimpleNamespace(module=module.eval(), proto=exported(module.eval()), x=x, labels=y)


def exported(module: nn.Module):
    """The module's float graph, with nodes named after modules."""
    import onnx_ir as ir

    from deploykit.exporting.clean import clean
    from deploykit.exporting.exporters import export_with

    with tempfile.TemporaryDirectory() as folder:
        model, _ = export_with(
            "torchscript", module, torch.zeros(2, 3, 32, 32), ["output"], 17, dynamic=True, folder=Path(folder)
        )
        clean(model, frozenset(name for name, _ in module.named_modules()))
        return ir.to_proto(model)


def observers(proto, x: np.ndarray):
    """What the activations of ``proto`` are on ``x``."""
    import onnx_ir as ir

    from deploykit.quantization.calibrate import observe, observed_values
    from deploykit.quantization.qdq.prepare import prepare

    wide = prepare(proto)
    return observe(ir.to_proto(wide), observed_values(wide), [x[i : i + 32] for i in range(0, len(x), 32)], opened)


def opened(proto):
    """A function from an input to all outputs by name."""
    session = session_of(proto)
    names = [one.name for one in session.get_outputs()]
    return lambda x: dict(zip(names, session.run(None, {"input": x}), strict=True))


def session_of(proto, *, integer_kernels: bool = True):
    """ONNX Runtime on the CPU; without integer kernels Q and DQ are computed in float as they stand."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    if not integer_kernels:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
