"""The pruned network and the masked whole one are run: what differs stays."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from deploykit.base.preprocessing import Preprocessing
from deploykit.commands.prune import prune
from deploykit.config.prune import PruneConfig
from deploykit.models import build, load_model, parse_arch, save_model
from deploykit.pruning.channel_graph import build_graph
from deploykit.pruning.check_graph import prunable_graph, some_atoms
from deploykit.pruning.exactness import WHY, inexact_groups, is_exact, masked_snr_db
from deploykit.pruning.trace import trace
from tests.pruning.nets import made

SIZE = (8, 8)


class Counting(nn.Module):
    """Three layers; what ``uses`` says reads a width as a number."""

    def __init__(self, uses: str) -> None:
        super().__init__()
        self.uses = uses
        self.a, self.b, self.c = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3), nn.Conv2d(32, 24, 3)
        self.fc = nn.Linear(24, 5)

    def forward(self, x):
        bright = bool(x.mean() > 1)
        x = functional.relu(self.a(x))
        if self.uses == "shape" or (self.uses == "bright" and bright):
            x = x / x.shape[1] ** 0.5
        x = functional.relu(self.b(x))
        if self.uses == "attribute":
            x = x * self.b.out_channels
        if self.uses == "some":
            x = x + (0.1 if x.shape[1] == 24 else 0.0)
        x = functional.dropout(x, 0.5, training=self.uses == "random")
        x = functional.relu(self.c(x)).mean((2, 3))
        if self.uses == "little":
            x = x + 1e-3 * x / x.shape[1]
        return self.fc(x)


def counting(uses):
    torch.manual_seed(0)
    return Counting(uses).eval()


def shape(num_classes=5):
    return counting("shape")


def drawing(num_classes=5):
    return counting("random")


def some(num_classes=5):
    return counting("some")


@pytest.mark.parametrize(
    ("uses", "kept"), [("shape", "a"), ("attribute", "b"), ("bright", "a"), ("little", "c"), ("nothing", None)]
)
def test_a_width_that_is_read_as_a_number_stays_and_is_named(uses, kept, listening):
    graph = prunable_graph(counting(uses), SIZE, listening)
    assert {group.name for group in graph.groups} == {"a", "b", "c"} - {kept}
    assert [name for name, why in graph.kept.items() if why == WHY] == [kept] * (kept is not None)
    assert any(kept in line for line in listening.said) if kept else not listening.said


def test_two_that_depend_on_each_other_do_not_both_go():
    class Balance(Counting):
        def forward(self, x):
            x = functional.relu(self.b(functional.relu(self.a(x))))
            return super().forward(torch.zeros(len(x), 3, *SIZE)) + x.sum() * max(self.a.out_channels - 15, 0)

    torch.manual_seed(0)
    net = Balance("nothing").eval()
    whole = build_graph(trace(net, (3, *SIZE)), (3, *SIZE))
    graph = prunable_graph(net, SIZE)
    assert 0 < len(graph.groups) < len(whole.groups)
    assert is_exact(net, graph, some_atoms(graph, graph.groups, seed=7))


def test_what_is_random_cannot_be_judged_and_that_is_said(listening):
    net = counting("random")
    graph = build_graph(trace(net, (3, *SIZE)), (3, *SIZE))
    assert not inexact_groups(net, graph, some_atoms(graph, graph.groups, seed=0), listening)
    assert any("differently each time" in line for line in listening.warned)


def test_float64_tells_rounding_from_a_difference():
    net = made("Residual")
    graph = prunable_graph(net, SIZE)
    removed = some_atoms(graph, graph.groups, seed=1)
    assert masked_snr_db(net, graph, removed, torch.float32) > 110
    assert masked_snr_db(net, graph, removed, torch.float64) > 250
    assert net.a.weight.dtype == torch.float32


@pytest.mark.parametrize(("factory", "kept"), [("shape", "a"), ("some", "b")])
def test_the_file_is_exact_and_says_what_stayed(factory, kept, tmp_path, listening):
    """``some`` differs at widths that the trial does not have: what is chosen is run too."""
    arch = parse_arch(f"tests.pruning.test_exactness:{factory}")
    module = build(arch, allow_code=True).eval()
    save_model(tmp_path / "m.pt", module, arch, Preprocessing(SIZE), [str(i) for i in range(5)])
    config = PruneConfig(ratios={"a": 0.5, "b": 0.75, "c": 0.5}, round_to=1, allow_code=True)
    if factory == "shape":
        config = PruneConfig(macs=0.7, round_to=1, allow_code=True)
    result = prune(tmp_path / "m.pt", config=config, progress=listening)
    assert result.facts["kept"][kept] == WHY
    assert any(kept in line and WHY in line for line in listening.said)
    pruned = load_model(result.output, allow_code=True).module
    assert getattr(pruned, kept).out_channels == getattr(module, kept).out_channels
    assert pruned.c.out_channels < 24


def test_a_network_that_draws_in_eval_mode_is_written_all_the_same(tmp_path):
    arch = parse_arch("tests.pruning.test_exactness:drawing")
    save_model(
        tmp_path / "m.pt", build(arch, allow_code=True).eval(), arch, Preprocessing(SIZE), [str(i) for i in range(5)]
    )
    result = prune(tmp_path / "m.pt", config=PruneConfig(macs=0.5, round_to=1, allow_code=True))
    assert result.facts["macs"]["kept"] <= 0.5
