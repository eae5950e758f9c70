"""Bare state dicts of other people's networks: recognised, ambiguous, unknown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from deploykit.base.errors import BadInput
from deploykit.base.overrides import Stated
from deploykit.models import arch_text, build, parse_arch
from deploykit.models.build import build_meta
from deploykit.models.index import INDEX, load_index, names_digest, resemblance, shapes_digest, sketch
from deploykit.models.load import load_model
from deploykit.models.recognize import named, recognise
from deploykit.models.sources import torchvision_names
from tests.listening import Listening

AMBIGUOUS = {"resnet18", "resnet50", "inception_v3"}  # timm has networks with the same tensors that answer otherwise
HERE = Path("model.pt")
CHEAP = [
    "alexnet",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "resnet34",
    "resnext50_32x4d",
    "regnet_y_400mf",
    "shufflenet_v2_x0_5",
    "squeezenet1_0",
    "swin_t",
    "vgg11_bn",
    "vit_b_16",
    "convnext_tiny",
    "wide_resnet50_2",
]


def _tensors(arch: str, classes: int = 7) -> dict[str, torch.Tensor]:
    parsed = parse_arch(arch)
    parsed.kwargs["num_classes"] = classes
    return build_meta(parsed).state_dict()


@pytest.mark.parametrize("name", CHEAP)
def test_torchvision_networks_are_recognised(name: str) -> None:
    arch = recognise(_tensors(f"torchvision:{name}"), HERE).arch
    assert (str(arch), arch.kwargs["num_classes"]) == (f"torchvision:{name}", 7)


@pytest.mark.parametrize("name", ["seresnet50", "regnety_002", "convnextv2_atto", "test_vit"])
def test_timm_networks_are_recognised(name: str) -> None:
    pytest.importorskip("timm")
    assert str(recognise(_tensors(f"timm:{name}"), HERE).arch) == f"timm:{name}"


@pytest.mark.parametrize("name", sorted(AMBIGUOUS))
def test_the_stock_network_is_taken_before_rarer_ones_that_fit(name: str) -> None:
    tensors = _tensors(f"torchvision:{name}")
    arch, others = recognise(tensors, HERE)
    assert str(arch) == f"torchvision:{name}"
    assert others
    assert all(other.source == "timm" for other in others)
    assert named(f"torchvision:{name}", tensors, allow_code=False).kwargs == {"num_classes": 7}


def test_the_stride_of_our_own_stem_leaves_no_trace(tmp_path: Path) -> None:
    module = build("deploykit:resnet:depth=8,widths=[8, 16, 24],stem_stride=2", 5).eval()
    torch.save(module.state_dict(), tmp_path / "m.pt")
    with pytest.raises(BadInput, match=r"stem_stride=1 · deploykit:resnet:.*stem_stride=2"):
        load_model(tmp_path / "m.pt")
    loaded = load_model(tmp_path / "m.pt", arch="deploykit:resnet:stem_stride=2")
    assert arch_text(loaded.arch) == "deploykit:resnet:depth=8,widths=[8, 16, 24],stem_stride=2"
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded.module(x), module(x))
    assert loaded.preprocessing is None
    sized = load_model(tmp_path / "m.pt", arch="deploykit:resnet:stem_stride=2", stated=Stated((32, 32)))
    assert sized.preprocessing is not None
    assert sized.preprocessing.assumed


def test_auxiliary_heads_are_loaded_and_only_the_logits_come_out(tmp_path: Path) -> None:
    module = build("torchvision:googlenet:aux_logits=true", 3).eval()
    torch.save(module.state_dict(), tmp_path / "g.pt")
    loaded = load_model(tmp_path / "g.pt")
    assert loaded.arch.kwargs == {"aux_logits": True, "num_classes": 3}
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded.module(x), module(x))
    assert loaded.preprocessing is not None
    assert loaded.preprocessing.size == (224, 224)
    assert not loaded.preprocessing.assumed


def test_step_counters_may_be_missing_and_old_densenet_names_are_read(tmp_path: Path) -> None:
    module = build("torchvision:densenet121", 3).eval()
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): tensor
        for name, tensor in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert any(".norm.1." in name for name in old)
    torch.save(old, tmp_path / "old.pth")
    loaded = load_model(tmp_path / "old.pth")
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded.module(x), module(x))


def test_unknown_network_names_the_nearest_and_the_first_differences() -> None:
    tensors = _tensors("torchvision:mobilenet_v2")
    del tensors["features.3.conv.2.weight"]
    tensors["extra.weight"] = torch.zeros(3)
    with pytest.raises(BadInput) as caught:
        recognise(tensors, HERE)
    line = caught.value.line()
    assert "nearest is torchvision:mobilenet_v2" in line
    assert "features.3.conv.2.weight is missing" in line
    assert "extra.weight is extra" in line
    assert "--arch" in line
    with pytest.raises(BadInput, match=r"of no network we know \(2 tensors, mine\.a \[3\]"):
        recognise({"mine.a": torch.zeros(3), "mine.b": torch.zeros(4)}, HERE)


@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "retinanet_resnet50_fpn"])
def test_the_last_layer_of_a_detector_counts_no_classes(name: str) -> None:
    with torch.device("meta"):
        tensors = dict(build(f"torchvision:{name}").state_dict())
    arch = named(f"torchvision:{name}", tensors, allow_code=False)
    assert (arch.kwargs, arch.shapes) == ({}, {})


def test_a_wrong_name_is_told_by_what_differs(tmp_path: Path) -> None:
    torch.save(build("torchvision:resnet34", 3).state_dict(), tmp_path / "m.pt")
    with pytest.raises(BadInput, match=r"does not fit torchvision:resnet18: .* is not in the network"):
        load_model(tmp_path / "m.pt", arch="torchvision:resnet18")


def test_fingerprints() -> None:
    shapes = {"a.weight": [4, 3], "fc.weight": [10, 4], "a.num_batches_tracked": []}
    assert names_digest(shapes) == names_digest(["fc.weight", "a.weight"])
    assert shapes_digest(shapes, ["fc.weight"]) == shapes_digest({**shapes, "fc.weight": [7, 4]}, ["fc.weight"])
    assert shapes_digest(shapes, []) != shapes_digest({**shapes, "fc.weight": [7, 4]}, [])
    assert shapes_digest(shapes, ["fc.weight"]) != shapes_digest({**shapes, "fc.weight": [10, 5]}, ["fc.weight"])
    names = [f"layer{n}.weight" for n in range(100)]
    assert resemblance(sketch(names), sketch(names)) == 1
    assert resemblance(sketch(names), sketch([name + "x" for name in names])) == 0
    assert resemblance(sketch(names), sketch(names[:95])) > 0.5


def test_the_index_is_small_and_covers_all_of_torchvision() -> None:
    assert INDEX.stat().st_size < 200_000
    known = {name for group in load_index().groups for members in group.classes for name in members}
    assert {f"torchvision:{name}" for name in torchvision_names()} <= known
    assert sum(name.startswith("timm:") for name in known) > 1300


@pytest.mark.slow
@pytest.mark.parametrize("name", torchvision_names())
def test_every_torchvision_classifier_builds_and_is_recognised(name: str) -> None:
    tensors = _tensors(f"torchvision:{name}")
    assert named(f"torchvision:{name}", tensors, allow_code=False).kwargs["num_classes"] == 7
    assert str(recognise(tensors, HERE).arch) == f"torchvision:{name}"


def test_networks_that_fit_as_well_are_warned_of(tmp_path: Path, listening: Listening) -> None:
    torch.save(build("torchvision:resnet18", 4).state_dict(), tmp_path / "r.pth")
    loaded = load_model(tmp_path / "r.pth")
    assert str(loaded.arch) == "torchvision:resnet18"
    loaded.tell(listening)
    assert len(listening.warned) == 1
    assert "timm:resnetblur18" in listening.warned[0]
    assert "--arch" in listening.warned[0]
