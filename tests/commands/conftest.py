"""A network with real margins, for what judges accuracy."""

import pytest


@pytest.fixture(scope="session")
def trained_model(tmp_path_factory, digits):
    """A narrow network trained for 60 real steps: int8 must cost a network with real margins nothing."""
    import torch

    from deploykit.base.checkpoint import Arch
    from deploykit.base.preprocessing import Preprocessing
    from deploykit.models import build, save_model

    images, labels = digits
    arch = Arch("deploykit", "resnet", {"num_classes": 10, "depth": 8, "widths": [16, 32, 64], "stem_stride": 2})
    x = (torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    y = torch.from_numpy(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(arch).train()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, nesterov=True)
        for step in range(60):
            picked = torch.arange(step * 64, step * 64 + 64) % len(x)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(x[picked]), y[picked]).backward()
            optimizer.step()
    path = tmp_path_factory.mktemp("trained") / "tiny.pt"
    preprocessing = Preprocessing((32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    save_model(path, module.eval(), arch, preprocessing, [str(d) for d in range(10)], lineage=[], samples=None)
    return path


@pytest.fixture(scope="session")
def tiny_onnx(tiny_model):
    """The tiny model exported, beside it."""
    from deploykit.commands.export import export
    from deploykit.config.export import ExportConfig

    path = tiny_model.with_name("tiny-exported.onnx")
    export(tiny_model, path, ExportConfig())
    return path
