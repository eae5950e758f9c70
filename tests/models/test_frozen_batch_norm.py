"""torchvision's FrozenBatchNorm2d counts as the BatchNorm it stands for: built, recognised, folded, counted and pruned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from deploykit.base.overrides import Stated
from deploykit.base.preprocessing import Preprocessing
from deploykit.commands.export import export
from deploykit.config.export import ExportConfig
from deploykit.models import arch_text, build, count, load_model, parse_arch, save_model
from deploykit.models.batch_norm import BatchNorm
from deploykit.pruning.check_graph import prunable_graph, some_atoms
from deploykit.pruning.importance import Given, channel_scores
from deploykit.pruning.surgery import mask, remove
from deploykit.training.modes import train_mode
from tests.models.frozen_net import frozen, ordinary

ARCH = "tests.models.frozen_net:frozen"
X = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def built() -> nn.Module:
    return build(ARCH, allow_code=True).eval()


def test_it_is_built_with_batch_norms_that_answer_the_same(built: nn.Module) -> None:
    assert [type(one) for one in (built.bn1, built.bn2)] == [nn.BatchNorm2d] * 2
    assert not any(isinstance(one, FrozenBatchNorm2d) for one in built.modules())
    with torch.no_grad():
        torch.testing.assert_close(built(X), frozen().eval()(X), rtol=1e-5, atol=1e-6)


def test_training_leaves_it_frozen(built: nn.Module) -> None:
    before = {name: value.clone() for name, value in built.state_dict().items() if name.startswith("bn")}
    train_mode(built)
    built(X).sum().backward()
    assert built.conv1.weight.grad is not None
    assert built.bn1.weight.grad is None
    for name, value in before.items():
        assert torch.equal(built.state_dict()[name], value), name


def test_parameters_and_macs_are_those_of_the_ordinary_network(built: nn.Module) -> None:
    assert count(built, (16, 16)) == count(ordinary(), (16, 16))


def test_it_is_folded_into_the_convolutions(built: nn.Module, tmp_path: Path) -> None:
    arch = parse_arch(ARCH)
    save_model(tmp_path / "m.pt", built, arch, Preprocessing((16, 16)), [str(i) for i in range(5)])
    result = export(tmp_path / "m.pt", tmp_path / "m.onnx", ExportConfig(allow_code=True))
    assert result.facts["batch_norms_left"] == 0
    assert set(result.facts["nodes"]) == {"Conv", "Relu", "ReduceMean", "Gemm"}
    import onnxruntime as ort

    found = ort.InferenceSession(str(tmp_path / "m.onnx")).run(None, {"input": X.numpy()})[0]
    np.testing.assert_allclose(found, frozen().eval()(X).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_it_is_pruned_like_the_ordinary_network(built: nn.Module) -> None:
    graph, other = prunable_graph(built, (16, 16)), prunable_graph(ordinary().eval(), (16, 16))
    assert [group.producers for group in graph.groups] == [group.producers for group in other.groups]
    gammas = channel_scores(built, graph, "bn-scale", Given())
    np.testing.assert_allclose(gammas[0], built.bn1.weight.abs().numpy())
    removed = some_atoms(graph, graph.groups, seed=0)
    zeroed = build(ARCH, allow_code=True).eval()
    mask(zeroed, graph, removed)
    remove(built, graph, removed)
    with torch.no_grad():
        torch.testing.assert_close(built(X), zeroed(X), rtol=1e-4, atol=1e-5)


def test_a_state_dict_of_frozen_norms_is_recognised(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = torchvision.models.resnet34(norm_layer=FrozenBatchNorm2d, num_classes=7).eval()
    assert not any(name.endswith("num_batches_tracked") for name in module.state_dict())
    torch.save(module.state_dict(), tmp_path / "m.pt")
    loaded = load_model(tmp_path / "m.pt", stated=Stated((32, 32)))
    assert arch_text(loaded.arch) == "torchvision:resnet34"
    assert any(isinstance(one, BatchNorm) for one in loaded.module.modules())
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(x), module(x), rtol=1e-4, atol=1e-5)
