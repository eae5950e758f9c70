"""Which channels go together, which stay, and why."""

import pytest
import torch
from torch import nn

from deploykit.base.errors import BadInput
from deploykit.models import build
from deploykit.pruning.check_graph import prunable_graph
from deploykit.pruning.prune_channels import keep_layers, sized
from tests.pruning.nets import made

SIZE = (8, 8)


def producers(graph):
    return [group.producers for group in graph.groups]


def test_a_skip_ties_and_a_concatenation_does_not():
    graph = prunable_graph(made("Residual"), SIZE)
    assert producers(graph) == [("stem", "b", "excite"), ("a",), ("side", "excite"), ("squeeze",)]
    assert [group.width for group in graph.groups] == [16, 32, 8, 8]


def test_grouped_convolutions_divide_their_channels_into_blocks():
    graph = prunable_graph(made("Depthwise"), SIZE)
    by_name = {group.name: group for group in graph.groups}
    assert by_name["b"].block_count == 4
    assert by_name["grouped"].block_count == 4
    assert by_name["a"].blocks is None


def test_the_head_stays():
    graph = prunable_graph(made("Plain"), SIZE)
    assert "fc" not in [name for group in graph.groups for name in group.producers]
    assert graph.kept["fc"] == "it makes the network's output"


def test_norms_over_channels_keep_them_and_are_named():
    graph = prunable_graph(made("Normed"), SIZE)
    assert producers(graph) == [("up",)]
    assert "layer (LayerNorm)" in graph.kept["a"]


def test_the_channels_of_a_group_that_is_normed_go_together():
    graph = prunable_graph(made("Grouped"), SIZE)
    stream, inner = graph.groups
    assert stream.producers == ("a", "c")
    assert (stream.width, stream.rows) == (4, 8)  # the wider of the groups of both norms
    assert (inner.width, inner.rows) == (24, 1)


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 16), nn.GroupNorm(4, 16, affine=False)])
def test_a_group_norm_whose_width_no_file_could_tell_keeps_its_channels(norm):
    net = nn.Sequential(nn.Conv2d(3, 16, 1), norm, nn.Conv2d(16, 32, 1), nn.ReLU(), nn.Conv2d(32, 5, 8), nn.Flatten())
    graph = prunable_graph(net.eval(), SIZE)
    assert producers(graph) == [("2",)]
    assert "1 (GroupNorm)" in graph.kept["0"]


def test_splits_and_views_that_state_a_width_keep_it(listening):
    graph = prunable_graph(made("Rigid"), SIZE, listening)
    assert producers(graph) == [("free",)]
    assert "code depends on its width" in graph.kept["a"]
    assert "code depends on its width" in graph.kept["last"]
    assert len(listening.said) == 1
    assert "last" in listening.said[0]


def test_a_shuffle_keeps_what_is_split_and_frees_the_rest():
    graph = prunable_graph(made("Shuffled"), SIZE)
    assert producers(graph) == [("inner",)]


def test_a_padded_shortcut_keeps_the_padded_channels_only():
    graph = prunable_graph(made("Scaled"), SIZE)
    widths = {group.name: group.width for group in graph.groups}
    assert widths["a"] == 12  # tied to the first 12 of wide; its last 8 meet zeros
    assert "wide" in graph.kept


def test_the_model_is_not_changed():
    net = made("Plain").train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    prunable_graph(net, SIZE)
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_networks_that_cannot_be_pruned_are_refused():
    class Number(nn.Conv2d):
        def forward(self, x):
            return {"shape": super().forward(x).shape[1]}

    with pytest.raises(BadInput, match="it returns no tensor; got dict"):
        prunable_graph(Number(3, 8, 1), SIZE)
    with pytest.raises(BadInput, match="no channels that can be removed; got 0: it makes the network's output"):
        prunable_graph(nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten()), SIZE)
    with pytest.raises(BadInput, match="does not run on images of 4×4 pixels"):
        prunable_graph(nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten()), (4, 4))


def test_layers_to_keep_are_found_by_name_or_module():
    graph = prunable_graph(build("deploykit:resnet", 10, kwargs={"depth": 8}), (32, 32))
    assert len(keep_layers(graph, ["layer2"]).groups) == len(graph.groups) - 2
    assert keep_layers(graph, ["layer1.0.conv1"]).kept["layer1.0.conv1"] == "it was asked to stay"
    with pytest.raises(BadInput, match=r"unknown layer 'layer1.0.cnv1'.*Did you mean 'layer1.0.conv1'"):
        keep_layers(graph, ["layer1.0.cnv1"])
    with pytest.raises(BadInput, match=r"the width of fc cannot change: it makes the network's output"):
        sized(graph, {"fc": 0.5})
    with pytest.raises(BadInput, match=r"conv1 and layer1.0.conv2 have the same channels; got the ratios 0.5 and 0.25"):
        sized(graph, {"conv1": 0.5, "layer1.0.conv2": 0.25})


def test_the_groups_are_those_of_torch_pruning():
    """An independent implementation couples the same layers and channels."""
    tp = pytest.importorskip("torch_pruning")
    net = build("deploykit:resnet", 10, kwargs={"depth": 8}).eval()
    graph = prunable_graph(net, (32, 32))
    dependencies = tp.DependencyGraph().build_dependency(net, example_inputs=(torch.zeros(1, 3, 32, 32),))
    names = {layer: name for name, layer in net.named_modules()}
    for group in graph.groups:
        coupled = dependencies.get_pruning_group(net.get_submodule(group.name), tp.prune_conv_out_channels, idxs=[3])
        theirs = {
            (names[item.dep.target.module], tuple(item.idxs)) for item in coupled if item.dep.target.module in names
        }
        ours = set()
        for site in graph.sites:
            if site.tensor.endswith("weight"):
                where = (graph.root[site.labels] == group.atoms[3]).nonzero()[0]
                if len(where):
                    ours.add((site.tensor.rpartition(".")[0], tuple(where.tolist())))
        assert ours == theirs


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_any_number_of_channels(channels):
    net = nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 5, 8), nn.Flatten()).eval()
    assert [group.name for group in prunable_graph(net, SIZE).groups] == ["0"]
    assert prunable_graph(net, SIZE, channels=channels).shape == (channels, *SIZE)
    with pytest.raises(BadInput, match="does not run on images"):
        prunable_graph(net, SIZE, channels=3)
