from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from deploykit.exporting.clean import clean, fold_batch_norms


class Pair(nn.Module):
    """A layer, its BatchNorm, and (``shared``) a second reader of the layer's output."""

    def __init__(self, layer: nn.Module, norm: nn.Module, shared: bool = False) -> None:
        super().__init__()
        self.layer, self.norm, self.shared = layer, norm, shared

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        return self.norm(y) + y.mean() if self.shared else self.norm(y)


def graph_of(module: nn.Module, x: torch.Tensor, folder: Path) -> ir.Model:
    """The TorchScript export in training-preserving mode, so that no exporter folds before us."""
    path = folder / "raw.onnx"
    torch.onnx.export(
        module, (x,), str(path), dynamo=False, opset_version=17, training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False, input_names=["input"], output_names=["output"],
    )  # fmt: skip
    return ir.load(path)


def run(model: ir.Model, x: torch.Tensor) -> np.ndarray:
    import onnxruntime as ort

    data = ir.to_proto(model).SerializeToString()
    return ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"input": x.numpy()})[0]


LAYERS: dict[str, tuple[Callable[[], nn.Module], int, tuple[int, ...]]] = {
    "conv": (lambda: nn.Conv2d(4, 6, 3, bias=False), 6, (2, 4, 8, 8)),
    "conv with bias": (lambda: nn.Conv2d(4, 6, 3), 6, (2, 4, 8, 8)),
    "grouped conv": (lambda: nn.Conv2d(4, 8, 3, groups=4), 8, (2, 4, 8, 8)),
    "transposed conv": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2), 6, (2, 4, 8, 8)),
    "grouped transposed conv": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), 6, (2, 4, 8, 8)),
    "linear": (lambda: nn.Linear(5, 7), 7, (3, 5)),
}


def norm_for(channels: int, rank: int) -> nn.Module:
    norm = (nn.BatchNorm2d if rank == 4 else nn.BatchNorm1d)(channels)
    generator = torch.Generator().manual_seed(1)
    norm.running_mean = torch.randn(channels, generator=generator)
    norm.running_var = torch.rand(channels, generator=generator) + 0.1
    norm.weight.data = torch.randn(channels, generator=generator)
    norm.bias.data = torch.randn(channels, generator=generator)
    return norm


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LAYERS)
def test_the_norm_goes_and_the_numbers_stay(name: str, tmp_path: Path) -> None:
    make, channels, shape = LAYERS[name]
    torch.manual_seed(0)
    module = Pair(make(), norm_for(channels, len(shape))).eval()
    x = torch.randn(*shape)
    model = graph_of(module, x, tmp_path)
    assert any(node.op_type == "BatchNormalization" for node in model.graph)
    assert fold_batch_norms(model) == (1, 0)
    assert [node.op_type for node in model.graph if node.op_type != "Identity"] == [
        {"linear": "Gemm"}.get(name, "ConvTranspose" if "transposed" in name else "Conv")
    ]
    np.testing.assert_allclose(run(model, x), module(x).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_an_output_with_a_second_reader_is_left(tmp_path: Path) -> None:
    module = Pair(nn.Conv2d(4, 6, 3), norm_for(6, 4), shared=True).eval()
    x = torch.randn(2, 4, 8, 8)
    model = graph_of(module, x, tmp_path)
    assert clean(model) == 1
    np.testing.assert_allclose(run(model, x), module(x).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_a_norm_before_its_convolution_is_left(tmp_path: Path) -> None:
    module = nn.Sequential(norm_for(4, 4), nn.ReLU(), nn.Conv2d(4, 6, 3)).eval()
    model = graph_of(module, torch.randn(2, 4, 8, 8), tmp_path)
    assert fold_batch_norms(model) == (0, 1)
