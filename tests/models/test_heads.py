"""Replacing the head, and counting parameters and MACs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deploykit.base.errors import BadInput
from deploykit.models import build, check_classifier, count, head_of, replace_head


@pytest.mark.parametrize(
    ("arch", "head", "size"),
    [
        ("deploykit:resnet", "fc", 32),
        ("deploykit:mobilenetv2", "classifier.1", 32),
        ("deploykit:cnn4", "classifier.4", 32),
        ("torchvision:resnet18", "fc", 64),
        ("torchvision:squeezenet1_1", "classifier.1", 64),
        ("torchvision:mobilenet_v3_small", "classifier.3", 64),
        ("torchvision:shufflenet_v2_x0_5", "fc", 64),
        ("timm:test_resnet", "fc", 64),
    ],
)
def test_replace_head(arch: str, head: str, size: int) -> None:
    if arch.startswith("timm"):
        pytest.importorskip("timm")
    module = build(arch).eval()
    before = {name: tensor for name, tensor in module.state_dict().items() if not name.startswith(head)}
    assert head_of(module) == replace_head(module, 3) == head
    assert module(torch.zeros(1, 3, size, size)).shape == (1, 3)
    after = module.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_no_head() -> None:
    with pytest.raises(BadInput, match="no linear or convolution layer"):
        head_of(nn.Sequential(nn.ReLU()))


@pytest.mark.parametrize(("outputs", "ok"), [(2, True), (10, True), (1, False)])
def test_one_logit_models_are_refused_by_name(outputs: int, ok: bool) -> None:
    if ok:
        assert check_classifier(outputs) == outputs
        with pytest.raises(BadInput, match="class names do not fit"):
            check_classifier(outputs, ("a",))
    else:
        with pytest.raises(BadInput, match=r"one-logit model .*multi-label"):
            check_classifier(outputs)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vit_b_16"])
def test_macs_are_those_torchvision_states(name: str) -> None:
    import torchvision

    with torch.device("meta"):
        module = build(f"torchvision:{name}")
    stated = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].meta
    counts = count(module, (224, 224))
    assert counts.params == stated["num_params"]
    assert counts.macs / 1e9 == pytest.approx(stated["_ops"], rel=0.01)


def test_count_leaves_the_module_as_it_was_and_names_a_wrong_size() -> None:
    module = build("deploykit:cnn4", 10, kwargs={"size": 32}).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    layers = count(module, (32, 32)).layers
    assert [layer.name for layer in layers][-1] == "classifier.4"
    assert layers[0].macs == 27 * 32 * 32 * 32
    assert module.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    with pytest.raises(BadInput, match="does not run on images of 64×64"):
        count(module, (64, 64))
