"""Model files of every kind, loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deploykit.base.checkpoint import Arch, read_tensors
from deploykit.base.errors import BadInput
from deploykit.base.overrides import Stated
from deploykit.base.preprocessing import Preprocessing
from deploykit.models import LoadedModel, build, load_model, save_model
from deploykit.models.pretrained import official_arch, official_weights, weights_preprocessing

SMALL = "deploykit:resnet:depth=8,widths=[8, 16, 32],stem_stride=2"


def _net(classes: int = 5) -> torch.nn.Module:
    torch.manual_seed(0)
    return build("deploykit:cnn4", classes, kwargs={"size": 32}).eval()


def _same(one: torch.nn.Module, other: torch.nn.Module, size: int = 32) -> bool:
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return torch.equal(one(x), other(x))


def test_own_file_round_trip(tiny_model: Path, digits: tuple[np.ndarray, np.ndarray]) -> None:
    loaded = load_model(tiny_model)
    assert str(loaded.arch) == "deploykit:resnet"
    assert not loaded.module.training
    assert loaded.classes == tuple("0123456789")
    assert loaded.samples is not None
    assert loaded.samples["images"].dtype == np.uint8
    assert np.array_equal(loaded.samples["images"], digits[0][:32])
    assert loaded.preprocessing == Preprocessing((32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
    x = (torch.from_numpy(digits[0].copy()).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        top1 = (loaded.module(x).argmax(1).numpy() == digits[1]).mean()
    assert top1 > 0.8


def test_another_architecture_than_the_files_own_is_refused(tiny_model: Path) -> None:
    with pytest.raises(BadInput, match=r"carries its own architecture; got torchvision:resnet18; expected deploykit"):
        load_model(tiny_model, arch="torchvision:resnet18")
    assert load_model(tiny_model, arch="deploykit:resnet").classes is not None


def test_size_overrides_the_files_and_says_so(tiny_model: Path) -> None:
    loaded = load_model(tiny_model, stated=Stated((48, 48)))
    assert loaded.preprocessing is not None
    assert loaded.preprocessing.size == (48, 48)
    assert "input size 48" in " ".join(loaded.notes)


def test_moving_average_is_used_when_present(tmp_path: Path) -> None:
    module, average = _net(), _net()
    for parameter in average.parameters():
        parameter.data.mul_(0.5)
    arch = Arch("deploykit", "cnn4", {"size": 32})
    save_model(tmp_path / "m.pt", module, arch, Preprocessing((32, 32)), list("abcde"), ema=dict(average.state_dict()))
    loaded = load_model(tmp_path / "m.pt")
    assert _same(loaded.module, average)
    assert not _same(loaded.module, module)
    assert "moving average" in loaded.notes[0]


def test_loading_leaves_the_random_state_alone(tiny_model: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_model(tiny_model)
    assert torch.equal(torch.rand(3), expected)


def _prefixed(state: dict, prefix: str) -> dict:
    return {prefix + name: tensor for name, tensor in state.items()}


WRAPPINGS = {
    "bare": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model": lambda s: {"model": s, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
    "model_state_dict": lambda s: {"model_state_dict": s, "loss": 0.1},
    "ddp": lambda s: _prefixed(s, "module."),
    "compiled_ddp": lambda s: {"model": _prefixed(s, "module._orig_mod.")},
    "lightning": lambda s: {
        "state_dict": {**_prefixed(s, "model."), "criterion.weight": torch.ones(5)},
        "hyper_parameters": {"lr": 0.1},
        "pytorch-lightning_version": "2.5",
    },
    "net": lambda s: {"state_dict": _prefixed(s, "net.")},
    "averaged": lambda s: {
        "state_dict": {name: tensor * 2 for name, tensor in s.items()},
        "model_ema": {**_prefixed(s, "module."), "n_averaged": torch.tensor(3)},
    },
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_wrapped_state_dicts(tmp_path: Path, name: str) -> None:
    module = _net()
    torch.save(WRAPPINGS[name](module.state_dict()), tmp_path / "w.pt")
    loaded = load_model(tmp_path / "w.pt")
    assert str(loaded.arch) == "deploykit:cnn4"
    assert loaded.arch.kwargs == {"num_classes": 5, "size": 32}
    assert _same(loaded.module, module)


def test_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    module = _net()
    save_file(module.state_dict(), tmp_path / "m.safetensors")
    assert _same(load_model(tmp_path / "m.safetensors").module, module)


def test_half_precision_is_cast_and_said(tmp_path: Path) -> None:
    module = _net().half()
    torch.save(module.state_dict(), tmp_path / "h.pt")
    loaded = load_model(tmp_path / "h.pt")
    assert {p.dtype for p in loaded.module.parameters()} == {torch.float32}
    assert "weights cast from float16 to float32" in loaded.notes
    assert _same(loaded.module, module.float())


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN"), (float("inf"), "infinity")])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, value: float, kind: str) -> None:
    module = _net()
    module.features[3].bias.data[2] = value
    torch.save(module.state_dict(), tmp_path / "n.pt")
    with pytest.raises(BadInput, match=rf"the tensor features\.3\.bias holds {kind}"):
        load_model(tmp_path / "n.pt")
    with pytest.raises(BadInput, match=r"features\.3\.bias"):
        save_model(tmp_path / "s.pt", module, Arch("deploykit", "cnn4"), Preprocessing((32, 32)), list("abcde"))
    assert not (tmp_path / "s.pt").exists()


def test_class_names_must_fit_the_head(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="class names do not fit the head; got 2 names; expected 5"):
        save_model(tmp_path / "s.pt", _net(), Arch("deploykit", "cnn4"), Preprocessing((32, 32)), ["a", "b"])


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": {"a": 1}}, {}])
def test_no_state_dict_inside(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(BadInput, match="holds no state dict"):
        load_model(tmp_path / "x.pt")


def test_own_file_with_a_tensor_too_few(tmp_path: Path, tiny_model: Path) -> None:
    content = read_tensors(tiny_model)
    del content["tensors"]["fc.bias"]
    torch.save(content, tmp_path / "less.pt")
    with pytest.raises(BadInput, match=r"does not fit deploykit:resnet: fc\.bias is missing"):
        load_model(tmp_path / "less.pt")


def test_user_code_runs_only_when_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    (tmp_path / "usernets.py").write_text(
        "from deploykit.models import build\n"
        "def small(num_classes=4):\n    return build('deploykit:cnn4', num_classes)\n"
        "def broken():\n    raise KeyError('weights')\n"
        "def other():\n    return 3\n"
        "def fixed():\n    return build('deploykit:cnn4', 6)\n"
    )
    monkeypatch.chdir(tmp_path)
    module = _net()
    torch.save(module.state_dict(), tmp_path / "m.pt")
    with pytest.raises(BadInput, match=r"user code, which may not run here.*--allow-code"):
        load_model(tmp_path / "m.pt", arch="usernets:small")
    loaded = load_model(tmp_path / "m.pt", arch="usernets:small", allow_code=True, stated=Stated((32, 32)))
    assert _same(loaded.module, module)
    save_model(tmp_path / "own.pt", module, loaded.arch, Preprocessing((32, 32)), list("abcde"))
    with pytest.raises(BadInput, match="user code"):
        load_model(tmp_path / "own.pt")
    assert _same(load_model(tmp_path / "own.pt", allow_code=True).module, module)
    with pytest.raises(BadInput, match="usernets:broken failed: KeyError: 'weights'"):
        build("usernets:broken", allow_code=True)
    with pytest.raises(BadInput, match="returned no network; got int"):
        build("usernets:other", allow_code=True)
    with pytest.raises(BadInput, match="cannot import usernets:none"):
        build("usernets:none", allow_code=True)
    assert build("usernets:fixed", 3, allow_code=True).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_official_weights_are_known_by_their_hash_without_a_download() -> None:
    from torchvision.models import ResNet50_Weights

    found = official_weights("11ad3fa6" + "0" * 56)  # resnet50-11ad3fa6.pth
    assert found == ("resnet50", ResNet50_Weights.IMAGENET1K_V2)
    assert weights_preprocessing(found[1]).resize == 232
    assert official_arch("googlenet", 1000).kwargs["transform_input"] is True
    assert official_weights("0" * 64) is None


def test_every_official_transform_is_a_preprocessing() -> None:
    from torchvision import models

    for name in models.list_models(module=models):
        for entry in models.get_model_weights(name):
            assert weights_preprocessing(entry).size[0] >= 224


def test_pruned_network_reloads_identically(tmp_path: Path) -> None:
    arch = Arch("torchvision", "mobilenet_v2", {"num_classes": 4})
    torch.manual_seed(0)
    module = build(arch).eval()
    block = module.features[2].conv  # expand 1×1 → depthwise → project
    keep = torch.arange(0, block[1][0].out_channels, 3)
    for conv, norm in ((block[0][0], block[0][1]), (block[1][0], block[1][1])):
        conv.weight.data = conv.weight.data[keep]
        conv.out_channels = len(keep)
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(norm, name).data = getattr(norm, name).data[keep]
        norm.num_features = len(keep)
    block[1][0].in_channels = block[1][0].groups = len(keep)
    block[2].weight.data = block[2].weight.data[:, keep]
    block[2].in_channels = len(keep)
    save_model(tmp_path / "p.pt", module, arch, Preprocessing((64, 64)), list("abcd"))
    loaded = load_model(tmp_path / "p.pt")
    assert loaded.arch.shapes["features.2.conv.1.0.weight"] == [len(keep), 1, 3, 3]
    assert _same(loaded.module, module, 64)
    torch.save(module.state_dict(), tmp_path / "bare.pt")
    with pytest.raises(BadInput, match="pruned torchvision:mobilenet_v2, pass --arch 'torchvision:mobilenet_v2'"):
        load_model(tmp_path / "bare.pt")
    named = load_model(tmp_path / "bare.pt", arch="torchvision:mobilenet_v2")
    assert _same(named.module, module, 64)
    assert "taken as pruned" in " ".join(named.notes)


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_programs_of_other_precision_are_brought_to_float32(tmp_path: Path, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 3))
    net = net.to(kind).eval()
    x = torch.rand(2, 1, 8, 8)
    program = torch.export.export(net, (x.to(kind),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, tmp_path / "p.pt2")
    loaded = load_model(tmp_path / "p.pt2")
    assert loaded.module(x[:1]).dtype == torch.float32
    torch.testing.assert_close(loaded.module(x), net.float()(x))
    assert loaded.notes[0] == f"cast from {str(kind).removeprefix('torch.')} to float32"
    assert loaded.preprocessing is not None
    assert (loaded.preprocessing.shape, loaded.preprocessing.assumed) == ((1, 8, 8), True)


_FACTORY = """
import torch
def net():
    return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
def told():
    return net(), {"preprocessing": {"size": 20, "mean": [0.1], "std": [0.3]}, "classes": list("abcd")}
def own():
    module = net()
    module.preprocessing, module.task = {"size": (20, 40), "mean": [0.1], "std": [0.3]}, "none"
    return module
def wrong():
    return net(), {"preprocess": 1}
"""


def test_a_factory_may_state_its_preprocessing_classes_and_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toldnets.py").write_text(_FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    torch.save(build("module:toldnets:net", allow_code=True).state_dict(), tmp_path / "m.pt")

    def loaded(factory: str, **stated: Any) -> LoadedModel:
        how = Stated(**stated)
        return load_model(tmp_path / "m.pt", arch=f"toldnets:{factory}", allow_code=True, stated=how)

    told = loaded("told")
    assert told.preprocessing == Preprocessing((20, 20), mean=(0.1,), std=(0.3,))
    assert (told.classes, told.task, told.doubts) == (("a", "b", "c", "d"), "classify", [])
    own = loaded("own")
    assert own.preprocessing is not None
    assert (own.preprocessing.shape, own.classes, own.task) == ((1, 20, 40), None, "none")
    flags = loaded("told", size=(8, 8), mean=(0.5,), classes=("w", "x", "y", "z"))
    assert flags.preprocessing == Preprocessing((8, 8), mean=(0.5,), std=(0.3,))
    assert flags.classes == ("w", "x", "y", "z")
    with pytest.raises(BadInput, match="--classes does not fit its outputs; got 2 names; expected 4"):
        loaded("told", classes=("w", "x"))
    with pytest.raises(BadInput, match="--mean; got 3 values; expected 1"):
        loaded("told", mean=(0.5, 0.5, 0.5))
    with pytest.raises(BadInput, match=r"unknown fact of toldnets:wrong 'preprocess'.* Did you mean 'preprocessing'"):
        loaded("wrong")
