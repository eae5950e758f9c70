from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deploykit.base.errors import AnswerNo
from deploykit.exporting import attempts, stand_ins
from deploykit.exporting.attempts import other_light
from tests.exporting.through_export import exported

HERE = "tests.exporting.test_attempts"


class Glaring(nn.Module):
    """What ``torch.where`` cannot tell a trace is patched away in a test: the file differs on bright images only."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.clip, self.head = nn.Conv2d(3, 4, 3), Limit(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(self.clip(x)).mean((2, 3)))


class Limit(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(max=0.8) if not torch.compiler.is_exporting() else x


def glaring() -> nn.Module:
    return Glaring()


def test_a_file_that_is_wrong_in_bright_light_only_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verified on dim images alone it would pass: all values are below the limit that the file lost."""
    import deploykit.exporting.onnx_file as onnx_file
    from deploykit.evaluation.split_images import Pictures

    dim = [np.random.default_rng(i).integers(0, 190, (32, 32, 3)).astype(np.uint8) for i in range(8)]
    monkeypatch.setattr(onnx_file, "_pictures", lambda *_: Pictures(dim, "synthetic"))
    with pytest.raises(AnswerNo, match="on dark, bright and random images: "):
        exported(f"{HERE}:glaring", tmp_path, exporter="dynamo")


def test_where_the_file_disagrees_the_layer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_ins, "avg_pool2d", lambda *_, **__: None)  # as the exporters write it
    with pytest.raises(AnswerNo, match=r"they part at layer/AveragePool \(AveragePool of module layer\): \d"):
        exported("tests.exporting.resampling_nets:own_divisor", tmp_path, 36)


def test_images_in_other_light_are_of_the_same_kind() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    dark, bright, noise = other_light(image)
    assert dark.max() <= 32
    assert bright.min() >= 223
    assert noise.std() > 60
    for one in (dark, bright, noise):
        assert one.shape == image.shape
        assert one.dtype == np.uint8
        assert len(np.unique(one)) > 8  # still an image: what divides by a deviation has one
    deep = attempts.other_light(image.astype(np.uint16) * 257)
    assert deep[1].min() > 57000
