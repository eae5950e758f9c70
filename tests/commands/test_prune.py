"""``prune`` on real files: what it makes, what it says, what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from deploykit.base.artifact import is_unmodified, read_manifest
from deploykit.base.checkpoint import Arch
from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.cli.main import app
from deploykit.commands.prune import prune
from deploykit.config.common import build as build_config
from deploykit.config.prune import PruneConfig
from deploykit.models import build, count, load_model, save_model
from tests.model_files import read_model_file


def config(**fields: Any) -> PruneConfig:
    return build_config(PruneConfig, {"threads": 1, **fields})


def same_answers(one: Path, other: Path) -> bool:
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        return torch.equal(load_model(one).module(x), load_model(other).module(x))


@pytest.fixture(scope="module")
def pruned(trained_model, tmp_path_factory):
    """Half of the MACs of a trained network, scored on its data's BatchNorm."""
    output = tmp_path_factory.mktemp("pruned") / "half.pt"
    return prune(trained_model, output, config(macs=0.5, data="digits", images=128))


def test_the_file_is_narrower_and_says_how(pruned, trained_model):
    facts = pruned.facts
    before, after = load_model(trained_model), load_model(pruned.output)
    assert facts["macs"]["before"] == count(before.module, (32, 32)).macs
    assert facts["macs"]["after"] == count(after.module, (32, 32)).macs
    assert facts["macs"]["kept"] <= 0.5
    assert facts["params"]["after"] == sum(p.numel() for p in after.module.parameters())
    assert after.arch.shapes
    assert after.classes == before.classes
    assert after.preprocessing == before.preprocessing
    assert after.lineage[-1]["stage"] == "prune"
    assert after.lineage[-1]["result"]["macs"] == facts["macs"]
    assert facts["kept"] == {"fc": "it makes the network's output"}
    rows = {row["name"]: row for row in facts["layers"]}
    assert rows["fc"]["width"] == [10, 10]
    assert rows["conv1"]["width"] == [16, after.module.conv1.out_channels]
    assert sum(row["macs"][1] for row in rows.values()) == facts["macs"]["after"]
    json.dumps(pruned.to_dict(), allow_nan=False)


def test_accuracy_before_one_shot_and_recalibrated(pruned):
    top1 = pruned.facts["top1_select"]
    assert top1["before"] > 0.8
    assert top1["recalibrated"] > top1["one_shot"]  # the statistics of the whole network do not fit the pruned one
    assert "before any training" in pruned.summary()


def test_least_squares_are_kept_where_they_help_on_select(pruned, trained_model, tmp_path, listening):
    found, top1 = pruned.facts["reconstruction"], pruned.facts["top1_select"]
    before, after = load_model(trained_model).module.state_dict(), load_model(pruned.output).module.state_dict()
    fewer = [name for name, one in before.items() if one.ndim > 1 and after[name].shape[1] < one.shape[1]]
    assert found["layers"] == len(fewer)
    assert found["images"] == 128
    helps = [list(pair) for pair in zip(found["top1_select"], found["nearness_db"], strict=True)]
    assert found["kept"] == (helps[1] > helps[0])
    assert found["top1_select"][0] == top1["recalibrated"]
    fields = {"macs": 0.4, "data": "digits", "images": 128, "select_images": 100}
    on = prune(trained_model, tmp_path / "on.pt", config(**fields, reconstruct="on"), progress=listening)
    off = prune(trained_model, tmp_path / "off.pt", config(**fields, reconstruct="off"))
    assert on.facts["reconstruction"]["kept"]
    assert on.facts["reconstruction"]["nearness_db"][1] > on.facts["reconstruction"]["nearness_db"][0]
    assert on.facts["top1_select"]["reconstructed"] == on.facts["reconstruction"]["top1_select"][1]
    assert any("layers on 128 images: top-1 on select" in line for line in listening.said)
    assert off.facts["reconstruction"] is None
    assert off.facts["top1_select"]["recalibrated"] == on.facts["reconstruction"]["top1_select"][0]
    assert not same_answers(on.output, off.output)


def test_without_data_nothing_is_solved_for(tiny_model, tmp_path):
    assert prune(tiny_model, tmp_path / "out.pt", config(macs=0.5, reconstruct="on")).facts["reconstruction"] is None


def test_manifest_and_attachments(pruned):
    manifest = read_manifest(pruned.output)
    assert manifest is not None
    assert is_unmodified(pruned.output, manifest)
    assert (manifest.kind, manifest.stage) == ("model", "prune")
    assert [parent.role for parent in manifest.parents] == ["model", "data", "data"]
    shown = json.loads(pruned.output.with_name("half.pt.attachments.json").read_text())
    titles = [one["title"] for one in shown["items"]]
    assert titles == ["Widths of the layers", "Layers before and after pruning", "Accuracy before any training"]


def test_nothing_is_done_twice_and_the_same_comes_again(pruned, trained_model, tmp_path):
    again = prune(trained_model, pruned.output, config(macs=0.5, data="digits", images=128))
    assert not again.made
    assert again.facts == pruned.facts
    assert "up to date" in again.summary()
    other = prune(trained_model, tmp_path / "again.pt", config(macs=0.5, data="digits", images=128))
    assert same_answers(pruned.output, other.output)


def test_a_pruned_file_is_pruned_again(pruned, tmp_path):
    second = prune(pruned.output, tmp_path / "quarter.pt", config(macs=0.6, round_to=2))
    assert second.facts["macs"]["before"] == pruned.facts["macs"]["after"]
    assert second.facts["macs"]["kept"] <= 0.6
    assert [entry["stage"] for entry in load_model(second.output).lineage] == ["prune", "prune"]


def test_a_pruned_file_trains_and_exports(pruned, tmp_path):
    from deploykit.commands.export import export
    from deploykit.commands.train import train
    from deploykit.config.export import ExportConfig
    from deploykit.config.train import TrainConfig

    tuned = train(
        tmp_path / "tuned.pt",
        build_config(
            TrainConfig,
            {"data": "digits", "model": {"weights": str(pruned.output)}, "epochs": 1, "lr": 0.02, "threads": 1},
        ),
    )
    assert tuned.facts["top1_select"] > pruned.facts["top1_select"]["one_shot"]
    assert load_model(tuned.output).arch.shapes == load_model(pruned.output).arch.shapes
    exported = export(tuned.output, tmp_path / "tuned.onnx", ExportConfig(threads=1))
    assert exported.facts["parity"]["ok"]


def test_a_pruned_file_loads_where_nothing_for_pruning_can_be_imported(pruned):
    code = (
        "import sys\n"
        "for name in ('torch_pruning', 'deploykit.pruning'): sys.modules[name] = None\n"
        "from deploykit.models import load_model\n"
        f"print(load_model({str(pruned.output)!r}).module.conv1.out_channels)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == load_model(pruned.output).module.conv1.out_channels


@pytest.mark.parametrize("importance", ["l1", "bn-scale", "fpgm", "lamp", "random"])
def test_every_criterion_without_data(importance, tiny_model, tmp_path):
    result = prune(tiny_model, tmp_path / "out.pt", config(params=0.6, importance=importance, scope="global"))
    assert result.facts["params"]["kept"] <= 0.6
    assert result.facts["top1_select"] is None


@pytest.mark.parametrize("importance", ["taylor", "hessian", "activation"])
def test_every_criterion_with_data(importance, trained_model, tmp_path):
    fields = {"macs": 0.5, "importance": importance, "data": "digits", "images": 64, "select_images": 50}
    result = prune(trained_model, tmp_path / "out.pt", config(**fields, scope="isomorphic", steps=2))
    assert result.facts["macs"]["kept"] <= 0.5


@pytest.mark.parametrize("unit", ["macs", "params"])
def test_widths_are_allocated(unit, trained_model, tmp_path):
    """In steps too; the budget holds, and layers do not all keep the same share."""
    fields = {unit: 0.4, "scope": "allocated", "round_to": 1, "steps": 2}
    facts = prune(trained_model, tmp_path / "out.pt", PruneConfig(**fields)).facts
    assert facts[unit]["kept"] <= 0.4
    shares = {round(row["width"][1] / row["width"][0], 2) for row in facts["layers"] if row["type"] == "Conv2d"}
    assert max(shares) - min(shares) > 0.2
    assert load_model(tmp_path / "out.pt").module is not None


def test_layers_are_kept_and_sized_by_name(tiny_model, tmp_path):
    fields: dict[str, Any] = {"macs": 0.7, "keep": ("layer3",), "ratios": {"layer2.0.conv1": 0.5}, "round_to": 1}
    module = load_model(prune(tiny_model, tmp_path / "out.pt", config(**fields)).output).module
    assert module.layer3[0].conv1.out_channels == 32
    assert module.layer2[0].conv1.out_channels == 8
    only = prune(tiny_model, tmp_path / "only.pt", config(ratios={"layer3.0.conv1": 0.25})).output
    assert load_model(only).module.layer3[0].conv1.out_channels == 8
    assert load_model(only).module.layer1[0].conv1.out_channels == 8


def test_two_of_four(trained_model, tmp_path, listening):
    result = prune(trained_model, tmp_path / "sparse.pt", config(pattern="2:4"), progress=listening)
    facts = result.facts["sparsity"]
    assert facts["pattern"] == "2:4"
    assert facts["zeros"] * 2 == facts["weights"]
    assert facts["not_eligible"]["conv1"] == "3 input channels are no multiple of 16"
    assert result.facts["two_of_four"] == {"eligible": 8, "layers": 10}
    loaded = load_model(result.output)
    weight = loaded.module.layer3[0].conv2.weight
    assert ((weight.movedim(1, -1).reshape(-1, 4) != 0).sum(1) <= 2).all()
    assert set(loaded.masks) == {f"{row['name']}.weight" for row in result.facts["layers"]} - {
        "conv1.weight",
        "fc.weight",
    }
    assert any("masks in 8 of 10 layers: 50% of their weights are zero" in line for line in listening.heard)


@pytest.mark.parametrize(
    "fields", [{"pattern": "2:4"}, {"unstructured": 0.5}, {"pattern": "2:4", "ratios": {"layer1.0.conv1": 0.5}}]
)
def test_layers_that_stay_get_no_masks(fields, tiny_model, tmp_path):
    result = prune(tiny_model, tmp_path / "sparse.pt", config(keep=("layer3",), **fields))
    before, after = load_model(tiny_model), load_model(result.output)
    masked = {name.partition(".")[0] for name in after.masks}
    assert "layer2" in masked
    assert "layer3" not in masked
    assert after.module.layer3[0].conv2.weight.count_nonzero() == before.module.layer3[0].conv2.weight.numel()
    with pytest.raises(BadInput, match=r"unknown layer 'layr3'.*Did you mean 'layer3'"):
        prune(tiny_model, tmp_path / "none.pt", config(keep=("layr3",), **fields))
    assert not (tmp_path / "none.pt").exists()


def test_masks_are_kept_in_training_and_checked_when_saved(trained_model, tmp_path):
    from deploykit.commands.train import train
    from deploykit.config.train import TrainConfig

    sparse = prune(trained_model, tmp_path / "sparse.pt", config(pattern="2:4", macs=0.9)).output
    fields = {"data": "digits", "model": {"weights": str(sparse)}, "epochs": 1, "lr": 0.02, "threads": 1, "batch": 256}
    tuned = load_model(train(tmp_path / "tuned.pt", build_config(TrainConfig, fields)).output)
    assert tuned.masks is not None
    for name, mask in tuned.masks.items():
        assert not tuned.module.get_parameter(name)[~mask].any()
    with torch.no_grad():
        next(iter(tuned.module.get_parameter(name) for name in tuned.masks)).add_(1.0)
    with pytest.raises(BadInput, match="weights that its mask leaves out are not zero"):
        save_model(
            tmp_path / "broken.pt", tuned.module, tuned.arch, tuned.preprocessing, tuned.classes, masks=tuned.masks
        )


@pytest.mark.parametrize("kind", ["bn-scale", "group-norm"])
def test_training_towards_pruning(kind, trained_model, tmp_path):
    """A strong penalty takes the scales down; the network still learns."""
    from deploykit.commands.train import train
    from deploykit.config.train import TrainConfig

    fields = {
        "data": "digits",
        "model": {"weights": str(trained_model)},
        "epochs": 1,
        "lr": 0.02,
        "threads": 1,
        "batch": 128,
    }
    settings = build_config(TrainConfig, fields | {"sparsify": kind, "sparsify_strength": 0.01})
    result = train(tmp_path / "out.pt", settings)
    before, after = load_model(trained_model).module, load_model(result.output).module
    assert after.bn1.weight.abs().sum() < before.bn1.weight.abs().sum()
    assert result.facts["top1_select"] > 0.8


def test_unstructured_is_said_to_be_an_experiment(tiny_model, tmp_path, listening):
    result = prune(tiny_model, tmp_path / "out.pt", config(unstructured=0.25), progress=listening)
    assert result.facts["sparsity"]["zeros"] / result.facts["sparsity"]["weights"] == pytest.approx(0.75, abs=0.01)
    assert any("experiment: no engine here is faster" in line for line in listening.heard)


def test_layer_times_are_measured(tiny_model, tmp_path):
    rows = prune(tiny_model, tmp_path / "out.pt", config(macs=0.5, layer_times=True)).measured["layers"]
    assert all(time > 0 for row in rows for time in row["ms"])


def test_default_names(tiny_model, tmp_path):
    source = tmp_path / "net.pt"
    shutil.copy(tiny_model, source)
    assert prune(source, config=config(macs=0.5)).output.name == "net.pruned50.pt"
    assert prune(source, config=config(params=0.875)).output.name == "net.pruned87.5.pt"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"macs": 0}, "macs: got 0, expected greater than 0"),
        ({"macs": 1}, "macs: got 1, expected less than 1"),
        ({"params": 1.5}, "params: got 1.5, expected less than 1"),
        ({"latency": -0.1}, "latency: got -0.1, expected greater than 0"),
        ({"macs": 0.5, "params": 0.5}, "got the budgets macs and params, expected one of them"),
        ({}, "no budget, expected one of macs, params, latency"),
        ({"macs": 0.5, "importance": "taylor"}, "importance taylor looks at pictures, expected data"),
        ({"macs": 0.5, "ratios": {"a": 0}}, "ratios.a: got 0.0, expected more than 0 and at most 1"),
        ({"macs": 0.5, "round_to": 0}, "round_to: got 0, expected auto or 1 and more"),
        ({"macs": 0.5, "keep": "layer1"}, "keep: got 'layer1', expected a list"),
        ({"latency": 0.5, "target": "foo"}, "target: got 'foo', expected 'ort-cpu', 'ort-cuda', 'tensorrt', 'tensor"),
        ({"pattern": "2:4", "unstructured": 0.5}, "got pattern and unstructured, expected one of them"),
        ({"macs": 0.5, "choices": "x.json"}, "choices are of a latency budget, expected latency"),
        ({"mac": 0.5}, "unknown key 'mac', did you mean 'macs'?"),
    ],
)
def test_configurations_that_make_no_sense(fields, why):
    with pytest.raises(BadInput) as error:
        config(**fields)
    assert why in error.value.line()


@pytest.mark.parametrize("value", [3.5, "3.5", True, "wide"])
def test_a_multiple_that_is_none_is_told_of_once(value):
    with pytest.raises(BadInput) as error:
        config(macs=0.5, round_to=value)
    assert error.value.line() == f"round_to: got {value!r}, expected auto or 1 and more"


def test_ratios_that_rounding_does_not_honour_are_told_of(tiny_model, tmp_path, listening):
    fields: dict[str, Any] = {"ratios": {"layer2": 0.2, "layer3.0.conv1": 0.5}}
    module = load_model(prune(tiny_model, tmp_path / "out.pt", config(**fields), progress=listening).output).module
    assert module.layer2[0].conv1.out_channels == 8
    told = [line for line in listening.heard if "--ratio" in line]
    assert "--ratio 0.2 of layer2.0.conv1: 3.2 of 16 channels asked, 8 stay by --round-to" in told
    assert not any("layer3" in line for line in told)


def test_ratios_that_change_nothing_are_refused(tiny_model, tmp_path, listening):
    wanted = (
        r"no --ratio changes a width; got the ratios 0\.5 of 16 channels. Ask for less, or use a smaller --round-to"
    )
    with pytest.raises(BadInput, match=wanted):
        prune(tiny_model, tmp_path / "out.pt", config(ratios={"layer2.0.conv1": 0.5}, round_to=16))
    fields: dict[str, Any] = {"ratios": {"layer2.0.conv1": 0.5}, "round_to": 16, "pattern": "2:4"}
    prune(tiny_model, tmp_path / "out.pt", config(**fields), progress=listening)
    assert any("8 of 16 channels asked, 16 stay by --round-to" in line for line in listening.heard)


def test_a_multiple_that_leaves_nothing_to_remove(tiny_model, tmp_path):
    with pytest.raises(
        BadInput, match=r"--macs 0.5 cannot be reached: protected layers and the .* cost as much as all"
    ):
        prune(tiny_model, tmp_path / "out.pt", config(macs=0.5, round_to=1000))


def test_budgets_below_the_floor_say_it(tiny_model, tmp_path):
    with pytest.raises(BadInput, match=r"--macs 0.001 is below .* narrowest widths cost; expected at least 0\.\d+"):
        prune(tiny_model, tmp_path / "out.pt", config(macs=0.001))
    with pytest.raises(BadInput, match=r"--macs 0.5 cannot be reached: protected layers"):
        prune(tiny_model, tmp_path / "out.pt", config(macs=0.5, keep=("layer1", "layer2", "layer3", "conv1")))
    assert not list(tmp_path.iterdir())  # nothing half-made is left


def test_wrong_files_and_names(tiny_model, tmp_path):
    with pytest.raises(BadInput, match="is an ONNX graph"):
        (tmp_path / "x.onnx").write_bytes(b"onnx")
        prune(tmp_path / "x.onnx", config=config(macs=0.5))
    with pytest.raises(BadInput, match=r"got out.onnx; expected a name that ends with .pt"):
        prune(tiny_model, tmp_path / "out.onnx", config(macs=0.5))
    with pytest.raises(BadInput, match=r"unknown layer 'layr2'.*Did you mean 'layer2'"):
        prune(tiny_model, tmp_path / "out.pt", config(macs=0.5, keep=("layr2",)))
    (tmp_path / "mine.pt").write_bytes(b"mine")
    with pytest.raises(BadInput, match="was not made by deploykit"):
        prune(tiny_model, tmp_path / "mine.pt", config(macs=0.5))


def test_classes_that_do_not_fit_the_data(tmp_path):
    arch = Arch("deploykit", "resnet", {"num_classes": 3, "depth": 8})
    path = tmp_path / "three.pt"
    save_model(path, build(arch).eval(), arch, Preprocessing((32, 32)), ["cat", "dog", "cow"])
    with pytest.raises(BadInput, match="classes of the model and of the data do not fit"):
        prune(path, config=config(macs=0.5, data="digits"))


def test_the_command_line(tiny_model, tmp_path):
    output = tmp_path / "out.pt"
    args = [
        "--macs",
        "0.5",
        "-o",
        str(output),
        "--ratio",
        "layer3.0.conv1=0.5",
        "--round-to",
        "4",
        "--json",
        "--threads",
        "1",
    ]
    done = CliRunner().invoke(app, ["prune", str(tiny_model), *args])
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["schema"] == "deploykit.prune/1"
    assert told["macs"]["kept"] <= 0.5
    assert read_model_file(output).tensors["layer3.0.conv1.weight"].shape[0] == 16
    assert np.isfinite(told["params"]["kept"])
    wrong = CliRunner().invoke(app, ["prune", str(tiny_model), "--macs", "0.5", "--ratio", "layer3"])
    assert wrong.exit_code == 2
    assert "cannot read --ratio 'layer3'; expected LAYER=FRACTION" in wrong.stderr
    twice = CliRunner().invoke(app, ["prune", str(tiny_model), "--ratio", "layer3=0.5", "--ratio", "layer3=0.75"])
    assert twice.exit_code == 2
    assert "--ratio names layer3 twice; got 0.5 and 0.75; expected one ratio for a layer" in twice.stderr


def test_a_stored_stage_runs_again(tiny_model, tmp_path):
    from deploykit.config.stage_file import write_stage

    arguments = {"model": tiny_model, "output": tmp_path / "out.pt", "config": config(params=0.5).plain()}
    write_stage(tmp_path / "prune.yaml", "prune", arguments, ("model", "output"))
    done = CliRunner().invoke(app, ["prune", "--config", str(tmp_path / "prune.yaml"), "--json", "--quiet"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["params"]["kept"] <= 0.5


def test_images_without_labels_are_enough(tmp_path, listening, trained_model):
    """Nearness to the whole network's outputs stands for the accuracy."""
    from PIL import Image

    for i in range(40):
        values = np.random.default_rng(i).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        (tmp_path / "flat").mkdir(exist_ok=True)
        Image.fromarray(values).resize((32, 32)).save(tmp_path / "flat" / f"{i}.png")
    fields = {"macs": 0.5, "data": str(tmp_path / "flat"), "reconstruct": "auto"}
    facts = prune(trained_model, tmp_path / "out.pt", config(**fields), progress=listening).facts
    assert facts["top1_select"] is None
    assert facts["reconstruction"]["top1_select"] is None
    before, after = facts["reconstruction"]["nearness_db"]
    assert facts["reconstruction"]["kept"] == (after > before)
    assert any("least squares" in line and "top-1" not in line for line in listening.said)


def maps(num_classes=2):
    from torch import nn

    class Maps(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
            self.heat, self.side = nn.Conv2d(16, num_classes, 1), nn.Conv2d(16, 1, 1)

        def forward(self, x):
            x = torch.relu(self.b(torch.relu(self.a(x))))
            return {"heat": self.heat(x).sigmoid(), "more": [self.side(x)]}

    return Maps()


def test_what_is_no_classifier_is_pruned_with_data(tmp_path, digits_npz):
    arch = Arch("module", "tests.commands.test_prune:maps", {"num_classes": 2})
    save_model(
        tmp_path / "m.pt", build(arch, allow_code=True).eval(), arch, Preprocessing((32, 32)), ["a", "b"], task="none"
    )
    fields = {"macs": 0.5, "data": str(digits_npz), "allow_code": True, "images": 64}
    result = prune(tmp_path / "m.pt", config=config(**fields))
    assert result.facts["top1_select"] is None
    assert result.facts["reconstruction"]["kept"]
    assert result.facts["reconstruction"]["nearness_db"][1] > result.facts["reconstruction"]["nearness_db"][0]
    with pytest.raises(BadInput, match="importance taylor"):
        prune(tmp_path / "m.pt", tmp_path / "t.pt", config(**fields, importance="taylor"))


def test_a_budget_that_rounding_undershoots_is_explained(tmp_path, listening):
    arch = Arch("module", "tests.commands.test_prune:maps", {"num_classes": 2})
    save_model(
        tmp_path / "m.pt", build(arch, allow_code=True).eval(), arch, Preprocessing((32, 32)), ["a", "b"], task="none"
    )
    fields = {"macs": 0.9, "allow_code": True}
    rounded = prune(tmp_path / "m.pt", tmp_path / "a.pt", config(**fields), progress=listening)
    left = rounded.facts["macs"]["kept"]
    assert left < 0.7
    line = next(line for line in listening.said if "--round-to 1" in line)
    assert f"{100 * left:.1f}" in line
    assert "90.0" in line
    listening.said.clear()
    finer = prune(tmp_path / "m.pt", tmp_path / "b.pt", config(**fields, round_to=1), progress=listening)
    assert finer.facts["macs"]["kept"] > 0.8
    assert not any("--round-to" in line for line in listening.said)
