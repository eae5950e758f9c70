"""2:4 masks: which layers, which weights."""

import pytest
import torch
from torch import nn

from deploykit.base.errors import BadInput
from deploykit.pruning.sparsity import (
    apply_masks,
    eligibility,
    eligible,
    follows_pattern,
    pattern_masks,
    sparsity_facts,
    two_of_four,
    unstructured_masks,
    without_masks,
)
from tests.pruning.nets import made


def test_the_two_largest_of_four_inputs_stay():
    weight = torch.tensor([[1.0, -4.0, 3.0, 2.0, 0.1, 0.2, -0.4, 0.3]])
    assert two_of_four(weight).tolist() == [[False, True, True, False, False, False, True, True]]


def test_equal_and_zero_weights_keep_exactly_two():
    assert two_of_four(torch.zeros(3, 8)).sum() == 12
    assert two_of_four(torch.ones(2, 4, 3, 3)).sum(dim=1).unique().tolist() == [2]


def test_convolutions_are_sparse_along_their_inputs():
    weight = torch.randn(8, 16, 3, 3, generator=torch.Generator().manual_seed(0))
    masked = weight * two_of_four(weight)
    assert follows_pattern(masked)
    assert not follows_pattern(weight)
    assert not follows_pattern(weight[:, :6])
    kept = masked[:, :4].abs().sum(dim=1)
    best = weight[:, :4].abs().topk(2, dim=1).values.sum(dim=1)
    torch.testing.assert_close(kept, best)


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.Conv2d(16, 8, 3), None),
        (nn.Linear(32, 1000), None),
        (nn.Conv2d(3, 16, 3), "3 input channels are no multiple of 16"),
        (nn.Conv2d(24, 16, 3), "24 input channels are no multiple of 16"),
        (nn.Linear(16, 10), "10 output channels are no multiple of 8"),
        (nn.Conv2d(32, 32, 3, groups=2), "it has groups"),
        (nn.ReLU(), "no convolution or linear layer"),
    ],
)
def test_eligible(layer, why):
    assert eligible(layer) == why


def test_masks_of_a_network_and_their_facts():
    net = made("Plain")
    assert [name for name, why in eligibility(net).items() if why is None] == ["b", "c"]
    masks = pattern_masks(net)
    apply_masks(net, masks)
    facts = sparsity_facts(net, masks, "2:4")
    assert facts["layers"] == 2
    assert facts["zeros"] * 2 == facts["weights"]
    assert set(facts["not_eligible"]) == {"a", "fc"}
    with pytest.raises(BadInput, match=r"no layer can have the 2:4 pattern; got 0: 3 input channels"):
        pattern_masks(nn.Sequential(nn.Conv2d(3, 8, 3)))


def test_unstructured_masks_keep_the_largest_of_all():
    net = made("Plain")
    masks = unstructured_masks(net, 0.25)
    total = sum(mask.numel() for mask in masks.values())
    assert sum(int(mask.sum()) for mask in masks.values()) == int(0.25 * total)
    kept = torch.cat([net.get_parameter(name)[mask].abs() for name, mask in masks.items()])
    gone = torch.cat([net.get_parameter(name)[~mask].abs() for name, mask in masks.items()])
    assert kept.min() >= gone.max()


def test_no_masks_in_layers_that_stay():
    net = made("Plain")
    kept = without_masks(net, ["b"])
    assert kept == {"b"}
    masks = pattern_masks(net, kept)
    assert set(masks) == {"c.weight"}
    assert sparsity_facts(net, {}, "2:4", kept)["not_eligible"]["b"] == "it was asked to stay"
    masks = unstructured_masks(net, 0.25, kept)
    assert set(masks) == {"a.weight", "c.weight", "fc.weight"}
    assert sum(int(mask.sum()) for mask in masks.values()) == sum(mask.numel() for mask in masks.values()) // 4
    assert sparsity_facts(net, masks, None, kept)["not_eligible"] == {"b": "it was asked to stay"}


def test_layers_that_stay_are_known_and_not_all():
    net = made("Plain")
    with pytest.raises(BadInput, match=r"unknown layer 'fcc'; .* Did you mean 'fc'"):
        without_masks(net, ["fcc"])
    with pytest.raises(BadInput, match=r"no layer can have the 2:4 pattern; .* Name fewer --keep layers"):
        pattern_masks(net, {"b", "c"})
    with pytest.raises(BadInput, match=r"no layer is left for masks. Name fewer --keep layers"):
        unstructured_masks(net, 0.25, {"a", "b", "c", "fc"})
