"""The names of architectures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deploykit.base.checkpoint import Arch
from deploykit.base.errors import BadInput
from deploykit.base.overrides import Stated
from deploykit.models import arch_text, architectures, build, load_model, parse_arch


@pytest.mark.parametrize(
    ("text", "arch"),
    [
        ("torchvision:resnet18", Arch("torchvision", "resnet18")),
        ("package.module:factory", Arch("module", "package.module:factory")),
        ("module:package.module:factory", Arch("module", "package.module:factory")),
        ("nets:tiny:width=2", Arch("module", "nets:tiny", {"width": 2})),
        (
            "deploykit:resnet:depth=14,widths=[32, 64, 128],stem_stride=2",
            Arch("deploykit", "resnet", {"depth": 14, "widths": [32, 64, 128], "stem_stride": 2}),
        ),
        ("torchvision:googlenet:aux_logits=true", Arch("torchvision", "googlenet", {"aux_logits": True})),
    ],
)
def test_round_trip(text: str, arch: Arch) -> None:
    assert parse_arch(text) == arch
    assert parse_arch(arch_text(arch)) == arch


@pytest.mark.parametrize("text", ["", "resnet18", ":x", "x:", "deploykit:resnet:14", "a b:c", "deploykit:resnet:a=[1"])
def test_unreadable(text: str) -> None:
    with pytest.raises(BadInput):
        parse_arch(text)


def test_architectures_lists_all_sources() -> None:
    known = architectures()
    assert "deploykit:cnn4" in known
    assert sum(name.startswith("torchvision:") for name in known) >= 80
    assert len(known) == len(set(known))


def test_a_module_whose_name_resembles_a_source_is_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_arch("module:timmnets:f") == Arch("module", "timmnets:f")
    with pytest.raises(BadInput, match="unknown model source 'timmnets'"):
        parse_arch("timmnets:f")
    (tmp_path / "timmnets.py").write_text("raise RuntimeError('looked for only, not imported')")
    monkeypatch.chdir(tmp_path)
    assert parse_arch("timmnets:f") == Arch("module", "timmnets:f")


@pytest.mark.parametrize("arch", ["deploykit:resnet:depth=8", "deploykit:mobilenetv2", "torchvision:resnet18"])
@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels(arch: str, channels: int, tmp_path: Path) -> None:
    module = build(f"{arch}:in_channels={channels}" if arch.count(":") == 1 else f"{arch},in_channels={channels}", 5)
    assert module.eval()(torch.zeros(1, channels, 64, 64)).shape == (1, 5)
    torch.save(module.state_dict(), tmp_path / "m.pt")
    own = arch.startswith("deploykit")  # the stride of its stem leaves no trace in the tensors
    named = f"{arch}{',' if arch.count(':') > 1 else ':'}stem_stride=1" if own else None
    loaded = load_model(tmp_path / "m.pt", arch=named, stated=Stated((64, 64), (0.5,), (0.5,)))
    assert loaded.arch.kwargs["in_channels"] == channels
    assert loaded.preprocessing is not None
    assert loaded.preprocessing.shape == (channels, 64, 64)
