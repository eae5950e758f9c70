"""A network trained for some seconds on real digits, as ONNX, with the pictures to judge it by."""

from __future__ import annotations

import numpy as np


def digit_pictures():
    """Prepared inputs float32 [N, 3, 32, 32] and labels of all digits: 1,297 to train on, the last 500 to judge by."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.kron(bunch.images, np.ones((4, 4)))[:, None] / 8 - 1
    return np.repeat(images.astype(np.float32), 3, axis=1), bunch.target


def trained(path, name, steps, **kwargs):
    """Train ``deploykit:NAME`` on digits; returns the ONNX network, pictures and labels."""
    import onnx
    import torch

    from deploykit.models import Arch, build

    x, y = digit_pictures()
    images, labels = torch.from_numpy(x[:1297]), torch.from_numpy(y[:1297])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(Arch("deploykit", name, {"num_classes": 10, **kwargs})).train()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            picked = torch.randint(0, len(images), (64,))
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(images[picked]), labels[picked]).backward()
            optimizer.step()
            schedule.step()
        module.eval()
        torch.onnx.export(
            module,
            (torch.zeros(2, 3, 32, 32),),
            path,
            dynamo=False,
            input_names=["input"],
            dynamic_axes={"input": {0: "batch"}},
            opset_version=18,
        )
    return onnx.load(path), x, y
