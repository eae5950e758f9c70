"""A live module stands where a model file does."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import deploykit
from deploykit.base.hashing import file_sha256
from deploykit.config.export import ExportConfig
from deploykit.exporting.live_module import write_module
from deploykit.models import build


class Net(nn.Module):
    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(torch.relu(self.norm(self.conv(x))).mean((2, 3))))


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean() if x.sum() > 0 else x.sum()


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return Net()


def test_it_is_exported_exactly_and_left_as_it_was(net: nn.Module, tmp_path: Path) -> None:
    net.train().half()
    before = copy.deepcopy(net.state_dict())
    result = deploykit.export(net, tmp_path / "net.onnx", size=32)
    assert result.facts["parity"]["snr_db"] > 100
    assert net.training
    assert all(
        torch.equal(before[key], value) and value.dtype == before[key].dtype for key, value in net.state_dict().items()
    )


def test_the_same_module_is_the_same_file(net: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = (write_module(net, tmp_path / folder, ExportConfig(size=32)) for folder in "ab")
    assert file_sha256(one) == file_sha256(other)
    first = deploykit.export(net, tmp_path / "net.onnx", size=32)
    again = deploykit.export(net, tmp_path / "net.onnx", size=32)
    assert (first.made, again.made) == (True, False)


def test_other_weights_are_another_file(net: nn.Module, tmp_path: Path) -> None:
    deploykit.export(net, tmp_path / "net.onnx", size=32)
    with torch.no_grad():
        net.head.bias += 1  # type: ignore[union-attr, operator]
    assert deploykit.export(net, tmp_path / "net.onnx", size=32).made


def test_two_of_one_class_stand_side_by_side(net: nn.Module, tmp_path: Path) -> None:
    config = ExportConfig(size=32)
    names = [write_module(one, tmp_path, config).name for one in (net, Net(), Net())]
    assert names == ["Net.pt2", "Net-2.pt2", "Net-3.pt2"]


def test_one_module_or_path_stands_for_a_list(net: nn.Module, tmp_path: Path) -> None:
    deploykit.export(net, tmp_path / "net.onnx", size=32)
    data = tmp_path / "data.npz"
    random = np.random.default_rng(0)
    np.savez(data, images=random.integers(0, 256, (80, 32, 32, 3), dtype=np.uint8), labels=np.arange(80) % 4)
    for artifacts in (net, [net], tmp_path / "net.onnx", [tmp_path / "net.onnx"], str(tmp_path / "net.onnx")):
        result = deploykit.evaluate(artifacts, data=str(data), size=32, images=8, threads=1)
        assert [one.name for one in result.report.variants] in (["Net"], ["net"])


def test_pruning_an_unknown_one_says_how_to_name_it(net: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(deploykit.BadInput, match=r"arch='package\.module:factory'"):
        deploykit.prune(net, tmp_path / "pruned.pt", size=32, macs=0.5)


def test_a_stock_network_is_recognised_and_can_be_pruned(tmp_path: Path) -> None:
    torch.manual_seed(0)
    result = deploykit.prune(torchvision.models.mnasnet0_5(num_classes=7), tmp_path / "pruned.pt", size=64, macs=0.8)
    assert result.made
    assert deploykit.load_model(tmp_path / "pruned.pt").arch.name == "mnasnet0_5"


def test_any_other_can_be_pruned_where_its_architecture_is_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    arch = "deploykit:resnet:depth=8,widths=[16, 32, 64]"
    result = deploykit.prune(build(arch, 10), tmp_path / "pruned.pt", size=32, macs=0.6, arch=arch)
    assert result.made


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        (Net(), {"size": 32}, "output"),
        (Net(), {"output": "x.onnx"}, "size"),
        (Branching(), {"output": "x.onnx", "size": 32}, "torch.export cannot follow the module Branching"),
    ],
)
def test_what_is_missing_is_said(
    module: nn.Module,
    arguments: dict[str, int],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(deploykit.BadInput, match=said):
        deploykit.export(module, **arguments)  # type: ignore[call-overload, arg-type]
    captured = capfd.readouterr()
    assert "def forward" not in captured.out + captured.err
