"""deploykit's own networks: their sizes, their register, their refusals."""

from __future__ import annotations

import pytest
import torch

from deploykit.base.errors import BadInput
from deploykit.models import build, count


@pytest.mark.parametrize(("depth", "params"), [(8, 77_850), (14, 175_258), (20, 272_666), (56, 857_114)])
def test_resnet_depths(depth: int, params: int) -> None:
    # 272,474 parameters for depth 20 with identity shortcuts (paper: 0.27 M), plus 2,688 of the two projections, less
    # nothing else: the counts follow from the layers, n blocks a stage
    module = build("deploykit:resnet", 10, kwargs={"depth": depth}).eval()
    assert sum(p.numel() for p in module.parameters()) == _resnet_params(depth)
    assert abs(_resnet_params(depth) - params) < 3_000
    assert module(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def _resnet_params(depth: int, widths: tuple[int, int, int] = (16, 32, 64), classes: int = 10) -> int:
    blocks, total, inputs = (depth - 2) // 6, 27 * widths[0] + 2 * widths[0], widths[0]
    for width in widths:
        for block in range(blocks):
            total += 9 * (inputs if block == 0 else width) * width + 9 * width * width + 4 * width
            if block == 0 and inputs != width:
                total += inputs * width + 2 * width
        inputs = width
    return total + widths[2] * classes + classes


@pytest.mark.parametrize("stem_stride", [1, 2])
def test_stem_stride_quarters_the_macs(stem_stride: int) -> None:
    kwargs = {"depth": 14, "widths": [32, 64, 128], "stem_stride": stem_stride}
    macs = count(build("deploykit:resnet", 10, kwargs=kwargs), (32, 32)).macs
    assert macs == pytest.approx(107.6e6 / stem_stride**2, rel=0.02)


@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
def test_mobilenetv2(width: float) -> None:
    module = build("deploykit:mobilenetv2", 7, kwargs={"width": width}).eval()
    assert any(isinstance(layer, torch.nn.ReLU6) for layer in module.modules())
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            assert layer.out_channels % 8 == 0
    assert module(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("size", [16, 32, 48, 224])
def test_cnn4_sizes(size: int) -> None:
    module = build("deploykit:cnn4", 4, kwargs={"size": size}).eval()
    assert module(torch.zeros(1, 3, size, size)).shape == (1, 4)


@pytest.mark.parametrize(
    ("arch", "text"),
    [
        ("deploykit:resnet:depth=9", "6n + 2"),
        ("deploykit:resnet:widths=[1, 2]", "three positive integers"),
        ("deploykit:resnet:stem_stride=3", "1 or 2"),
        ("deploykit:resnet:colour=red", "unexpected keyword argument 'colour'"),
        ("deploykit:mobilenetv2:width=0", "above 0"),
        ("deploykit:cnn4:size=30", "a multiple of 16"),
        ("deploykit:rsnet", "Did you mean 'resnet'"),
        ("torchvision:resnet81", "Did you mean 'resnet"),
        ("timm:resnet_5", "nearest: resnet50"),
        ("torchvison:resnet18", "Did you mean 'torchvision'"),
        ("resnet18", "SOURCE:NAME"),
    ],
)
def test_refusals(arch: str, text: str) -> None:
    with pytest.raises(BadInput) as caught:
        build(arch)
    assert text in caught.value.line()


@pytest.mark.parametrize("classes", [0, -1, 2.5, "ten"])
def test_number_of_classes(classes: object) -> None:
    with pytest.raises(BadInput, match="a positive integer"):
        build("deploykit:resnet", classes)  # type: ignore[arg-type]
