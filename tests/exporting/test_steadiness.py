from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from deploykit.base.errors import BadInput
from deploykit.exporting.steadiness import check_steady
from tests.exporting.through_export import built, exported

NETS = "tests.exporting.unsteady_nets"
X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def line_of(text: str) -> str:
    """``tests/exporting/unsteady_nets.py:LINE`` of the line that holds ``text``."""
    place = Path(__file__).with_name("unsteady_nets.py")
    number = next(i for i, line in enumerate(place.read_text().splitlines(), 1) if text in line)
    return f"unsteady_nets.py:{number}"


@pytest.mark.parametrize(
    ("factory", "named"),
    [
        (
            "dropout_as_a_function",
            ["by chance", "dropout", line_of("F.dropout(y"), "forward of Small", "self.training"],
        ),
        ("noise", ["by chance", "randn_like", line_of("torch.randn_like")]),
        ("counting", ["second call", "forward of Small"]),
        ("norm_of_the_batch", ["images beside it", "layer 'norm' (BatchNorm2d)", "track_running_stats=True"]),
        ("centred_by_the_batch", ["images beside it", "layer 'centre' (Centre)", "--batch 1"]),
        ("softmax_over_the_batch", ["images beside it", "forward of Small"]),
        ("squeezed", ["'output'", "another shape for one image", "squeeze"]),
        ("one_answer_for_all", ["'output'", "one entry for each image", "[10] for 2 images"]),
        ("for_two_images", ["batch of 2", line_of("y.reshape(2, 8"), "x.shape[0]", "--batch 2"]),
        ("as_many_as_there_are", ["'output'", "shape"]),
    ],
)
def test_what_is_not_steady_is_named(factory: str, named: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        check_steady(built(f"{NETS}:{factory}"), X, one_by_one=True)
    for part in named:
        assert part in caught.value.line()


def test_a_layer_in_training_mode_is_named() -> None:
    net = built(f"{NETS}:steady")
    net.drop.train()
    with pytest.raises(
        BadInput, match=r"native_dropout|bernoulli|dropout.*layer 'drop' \(Dropout\).*\.eval\(\) on 'drop'"
    ):
        check_steady(net, X, one_by_one=True)


@pytest.mark.parametrize("factory", ["steady", "branching", "by_size"])
def test_what_answers_alike_passes(factory: str) -> None:
    check_steady(built(f"{NETS}:{factory}"), X, one_by_one=True)


def test_a_fixed_batch_may_be_computed_over() -> None:
    check_steady(built(f"{NETS}:norm_of_the_batch"), X, one_by_one=False)


def test_integers_are_not_compared_and_nan_is_no_difference() -> None:
    class Ties(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x.flatten(1).argmax(1), torch.log(-x.flatten(1))

    check_steady(Ties().eval(), X, one_by_one=True)


def test_export_refuses_before_it_tries_the_exporters(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="by chance"):
        exported(f"{NETS}:noise", tmp_path)
    assert not (tmp_path / "net.onnx").exists()


def test_for_one_batch_size_a_network_over_the_batch_is_exported(tmp_path: Path) -> None:
    assert exported(f"{NETS}:squeezed", tmp_path, batch=3).facts["parity"]["ok"]
