"""The shipped ImageNet recipes, on a small folder laid out as ImageNet is, with networks that answer on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.base.spec import parse_spec
from deploykit.config.recipe_read import load_recipe
from deploykit.config.run import RunConfig
from deploykit.pipeline import run
from deploykit.pipeline.find_recipe import find_recipe
from deploykit.pipeline.measurement import target_of
from deploykit.pipeline.plan import plan

CLASSES = ("n01440764", "n01443537", "n01484850")
SIZE = 64
SHORT = (
    "benchmark.max_time_s=2", "benchmark.min_blocks=2", "benchmark.block_ms=5", "benchmark.end_to_end=false",
    *(
        f"variants.{name}.steps.0.quantize={{images: 32, select_images: 16, method: minmax, equalize: 'off', bias_correction: 'off'}}"
        for name in ("int8", "openvino-int8")
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``train`` and ``val`` with three classes of JPEGs of several sizes: another texture and colour each."""
    from PIL import Image

    root = tmp_path_factory.mktemp("imagenet")
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 16)):
        for number, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                height, width = (int(v) for v in random.integers(70, 110, 2))
                y, x = np.mgrid[:height, :width] / (3.0 + 4 * number)
                wave = np.sin(x * (number + 1) + random.uniform(0, 6)) * np.cos(y + random.uniform(0, 6))
                tint = np.eye(3)[number] * 110
                picture = 70 + 12 * wave[..., None] + tint + random.normal(0, 4, (height, width, 3))
                image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
                image.save(root / split / name / f"{name}_{i}.JPEG", quality=92)
    return root


def weights(arch: str, imagenet: Path, path: Path, steps: int) -> None:
    """A bare state dict, as torchvision's are: some steps of training, then BatchNorm and the head of the training pictures."""
    import torch

    from deploykit.data import open_data, prepare
    from deploykit.models import build

    train = open_data(f"imagenet:{imagenet}").split("train")
    source = open_data(f"imagenet:{imagenet}")
    x = torch.from_numpy(prepare([train.image(i) for i in range(len(train))], source.preprocessing((SIZE, SIZE))))
    labels = torch.from_numpy(np.asarray(train.labels))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(arch, num_classes=len(CLASSES)).train()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.03, momentum=0.9)
        for step in range(steps):
            picked = torch.arange(step * 32, step * 32 + 32) * 37 % len(x)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(x[picked]), labels[picked]).backward()
            optimizer.step()
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None
                layer.reset_running_stats()
        module(x)
        head = module.fc if hasattr(module, "fc") else module.classifier[1]
        seen: list[Any] = []
        hook = head.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
        module.eval()(x)
        hook.remove()
        means = torch.stack([seen[0][labels == label].mean(0) for label in range(len(CLASSES))])
        apart = means - means.mean(0)  # the nearest mean, as a linear layer
        scale = 10 / apart.square().sum(1).mean()
        head.weight.copy_(scale * apart)
        head.bias.copy_(scale * (-(apart @ means.mean(0)) - 0.5 * apart.square().sum(1)))
        torch.save(module.state_dict(), path)


@pytest.mark.parametrize("name", ["imagenet_resnet50", "imagenet_mobilenetv2"])
def test_the_shipped_recipe_is_whole(name: str) -> None:
    recipe = load_recipe(find_recipe(name))
    assert recipe.name == name
    assert {"eager", "fp32", "int8", "openvino", "openvino-int8", "cuda-fp16"} == set(recipe.variants)
    assert recipe.baseline == "fp32"


def test_pytorch_is_told_the_architecture_of_the_model_file() -> None:
    recipe = load_recipe(find_recipe("imagenet_resnet50"))
    made = plan(recipe)
    assert target_of(recipe, made, "eager") == "torch-eager:arch=torchvision:resnet50"
    assert parse_spec(f"eager=x.pth@{target_of(recipe, made, 'eager')}").options == {"arch": "torchvision:resnet50"}
    assert target_of(recipe, made, "fp32") == "ort-cpu"


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("net", ["resnet50", "mobilenetv2"])
def test_a_small_imagenet_goes_through(net: str, imagenet: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    arch = {"resnet50": "torchvision:resnet50", "mobilenetv2": "torchvision:mobilenet_v2"}[net]
    weights(arch, imagenet, tmp_path / "weights.pth", steps=25)
    changes = (f"data=imagenet:{imagenet}", f"model.file={tmp_path / 'weights.pth'}", f"model.size={SIZE}", *SHORT)
    result = run(f"imagenet_{net}", tmp_path / "run", RunConfig(changes=changes))
    assert result.report is not None
    found = {one.name: one for one in result.report.variants}
    for name in ("eager", "fp32", "int8", "openvino", "openvino-int8"):
        assert found[name].status == "ok", found[name].reason
        assert found[name].accuracy.top1 > 0.8
    assert found["openvino"].parity.snr_db > 80
    for name in ("int8", "openvino-int8"):
        assert found[name].precision == "int8"
        assert found[name].accuracy.drop_pt < 7  # of 48 pictures
    audit = found["openvino-int8"].audit
    assert audit["int8_convs"] > 0.9 * audit["convs"]
    gpu = found["cuda-fp16"]
    assert gpu.status == "ok" or "ort-cuda" in gpu.reason
    assert [step.stage for step in gpu.steps][-3:-1] == ["export", "export"]
    again = run(f"imagenet_{net}", tmp_path / "run", RunConfig(changes=changes))
    left_out = [one.name for one in result.stages if one.status == "skipped"]  # for the GPU, where there is none
    assert {one.name: one.status for one in again.stages} == {
        one.name: "skipped" if one.name in left_out else "kept" for one in result.stages
    }
    assert all("cuda" in name for name in left_out)
    assert str(tmp_path) not in (tmp_path / "run" / "report.json").read_text()
