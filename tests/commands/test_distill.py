from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deploykit.base.artifact import is_unmodified, read_manifest
from deploykit.base.errors import AnswerNo, BadInput
from deploykit.commands.distill import distill
from deploykit.config.common import build
from deploykit.config.distill import DistillConfig
from tests.listening import Listening
from tests.model_files import read_model_file

SMALL = "deploykit:resnet:depth=8,widths=[8, 8, 16],stem_stride=2"


def config(data: Any, *teachers: Any, **fields: Any) -> DistillConfig:
    fields = {"epochs": 1, "batch": 32, "threads": 1, "device": "cpu", "lr": 0.02, **fields}
    return build(DistillConfig, {"data": str(data), "teachers": [str(one) for one in teachers], **fields})


@pytest.fixture(scope="module")
def teacher_onnx(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The teacher as an ONNX file with its preprocessing inside: uint8 NHWC, five pictures at a time and no other number."""
    from deploykit.commands.export import export
    from deploykit.config.export import ExportConfig

    folder = tmp_path_factory.mktemp("onnx")
    return export(tiny_model, folder / "tiny.onnx", ExportConfig(embed_preprocessing=True, batch=5, threads=1)).output


def student(path: Path, classes: list[str] | None = None, mean: float = 0.5, **parts: Any) -> Path:
    """A student's file: seeded weights, and what a pruned network carries besides."""
    from deploykit.base.preprocessing import Preprocessing
    from deploykit.models import build as made
    from deploykit.models import parse_arch, save_model

    names = classes or [str(n) for n in range(10)]
    torch.manual_seed(1)
    module = made(SMALL, len(names))
    for name, mask in parts.get("masks", {}).items():
        module.get_parameter(name).data.mul_(mask)
    arch = parse_arch(SMALL)
    top1 = {"before": 0.75, "one_shot": 0.25, "recalibrated": 0.5}
    lineage = [{"stage": "prune", "result": {"top1_select": top1, "macs": {"before": 2 * 10**6, "after": 10**6}}}]
    preprocessing = Preprocessing((32, 32), mean=(mean,) * 3, std=(0.5,) * 3)
    save_model(path, module, arch, preprocessing, names, lineage=lineage, **parts)
    return path


def test_a_student_file_learns_and_carries_all_that_others_need(
    tmp_path: Path, digits_npz: Path, tiny_model: Path, listening: Listening
) -> None:
    given = student(tmp_path / "small.pt")
    result = distill(given, None, config(digits_npz, tiny_model, epochs=4, ema=0.8), progress=listening)
    assert result.output == tmp_path / "small.distilled.pt"
    facts = result.facts
    assert facts["top1_select"] > facts["top1_select_before"]
    assert facts["teachers"][0]["name"] == "tiny"
    assert facts["top1_select_teachers"] == facts["teachers"][0]["top1_select"] > 0.7
    assert facts["student"]["macs"] < 2e6
    file = read_model_file(result.output)
    assert file.ema is not None
    assert [entry["stage"] for entry in file.lineage] == ["prune", "distill"]
    assert file.lineage[1]["config"]["teachers"] == ["tiny=tiny.pt"]
    manifest = read_manifest(result.output)
    assert manifest is not None
    assert is_unmodified(result.output, manifest)
    roles = [parent.role for parent in manifest.parents]
    assert roles == ["data"] * 3 + ["model", "teacher"]
    assert str(tmp_path) not in json.dumps(manifest.config) + str(file.lineage)
    assert "as it came" in result.summary()
    again = distill(given, None, config(digits_npz, tiny_model, epochs=4, ema=0.8, cache=False))
    assert not again.made
    assert again.facts == facts


def test_the_report_gets_curves_and_what_each_step_was_worth(
    tmp_path: Path, digits_npz: Path, tiny_model: Path
) -> None:
    from deploykit.reporting.attachments.files import attached

    made = distill(student(tmp_path / "small.pt"), None, config(digits_npz, tiny_model, epochs=2))
    loss, top1, worth = (one.plain() for one in attached(made.output))
    assert loss["title"] == "Training loss"
    assert [point[0] for point in loss["payload"]["lines"][0]["points"]] == [1, 2]
    assert "teacher tiny" in json.dumps(top1)
    rows = worth["payload"]["rows"]
    assert [row[0] for row in rows] == ["prune", "distill"]
    assert rows[0][1:5] == [1.0, 25.0, 50.0, None]
    after = 100 * made.facts["top1_select"]
    assert rows[1][4] == pytest.approx(after)
    assert rows[1][5] == pytest.approx(after - 50.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"loss": "dkd"},
        {"loss": "dist"},
        {
            "loss": "kd",
            "alpha": 0.5,
            "temperature": 2,
            "label_smoothing": 0.1,
            "augment": {"mixup": 0.2, "shift_px": 2},
        },
        {"features": "attention", "layers": ["layer1", "layer2"]},
        {"features": "hint", "layers": ["layer2.0=layer3.0"], "ema": 0.5},
        {"view": "clean", "augment": {"shift_px": 2, "crop": 0.5}},
    ],
    ids=str,
)
def test_every_loss_lowers_what_it_measures(tmp_path: Path, digits_npz: Path, tiny_model: Path, fields: dict) -> None:
    made = distill(student(tmp_path / "small.pt"), None, config(digits_npz, tiny_model, epochs=3, **fields))
    assert made.facts["epochs"] == 3
    curve = json.loads((tmp_path / "small.distilled.pt.attachments.json").read_text())["items"][0]
    losses = [value for _, value in curve["payload"]["lines"][0]["points"]]
    assert losses[-1] < losses[0]


def test_from_scratch_and_auto(tmp_path: Path, digits_npz: Path, tiny_model: Path, listening: Listening) -> None:
    made = distill(
        None, tmp_path / "s.pt", config(digits_npz, tiny_model, arch="auto", auto_macs=0.4), progress=listening
    )
    (line,) = [line for line in listening.heard if line.startswith("student: deploykit:resnet")]
    assert "million MACs" in line
    assert made.facts["student"]["macs"] <= 0.4 * made.facts["student"]["macs_of_teacher"]
    assert made.facts["top1_select_before"] is None
    assert "from scratch" in made.summary()
    file = read_model_file(made.output)
    assert file.preprocessing == read_model_file(tiny_model).preprocessing
    other = distill(None, tmp_path / "m.pt", config(digits_npz, tiny_model, arch="deploykit:mobilenetv2:width=0.25"))
    assert read_model_file(other.output).arch.name == "mobilenetv2"


def test_teachers_of_any_engine_answer_alike(
    tmp_path: Path, digits_npz: Path, tiny_model: Path, teacher_onnx: Path
) -> None:
    """The same network as .pt, and as .onnx with its preprocessing inside, teaches the same."""
    made = {}
    for name, teacher in (("pt", tiny_model), ("onnx", teacher_onnx)):
        fields = config(digits_npz, teacher, augment={"shift_px": 2})
        made[name] = read_model_file(distill(student(tmp_path / f"{name}.pt"), None, fields).output).tensors
    assert all(torch.allclose(made["pt"][key].float(), made["onnx"][key].float(), atol=2e-3) for key in made["pt"])


@pytest.mark.parametrize("combine", ["average", "weighted", "vote"])
def test_ensembles(tmp_path: Path, digits_npz: Path, tiny_model: Path, combine: str, listening: Listening) -> None:
    weak = student(tmp_path / "weak.pt", mean=0.4)
    made = distill(
        student(tmp_path / "s.pt"),
        None,
        config(digits_npz, tiny_model, f"w={weak}", combine=combine),
        progress=listening,
    )
    tiny, other = made.facts["teachers"]
    assert (tiny["name"], other["name"]) == ("tiny", "w")
    assert tiny["top1_select"] > other["top1_select"]
    if combine == "weighted":
        assert tiny["weight"] > other["weight"]
        assert any(line.startswith("weights by the likelihood of select: tiny ") for line in listening.heard)
    assert "2 teachers" in made.summary()


def test_the_second_step_of_a_recipe_reads_the_teachers_answers(
    tmp_path: Path, digits_npz: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploykit.distillation import teachers

    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(tmp_path / "cache"))
    asked = []
    real = teachers.ModuleTeacher.__call__
    monkeypatch.setattr(teachers.ModuleTeacher, "__call__", lambda self, *a: asked.append(1) or real(self, *a))
    fields = {"epochs": 2, "augment": {"shift_px": 2}}
    first = distill(student(tmp_path / "a.pt"), None, config(digits_npz, tiny_model, **fields))
    assert len(asked) > 0
    count = len(asked)
    second = distill(student(tmp_path / "b.pt"), None, config(digits_npz, tiny_model, **fields))
    assert len(asked) == count
    uncached = distill(student(tmp_path / "c.pt"), None, config(digits_npz, tiny_model, cache=False, **fields))
    assert len(asked) == 2 * count
    one, two, three = (read_model_file(made.output).tensors for made in (first, second, uncached))
    assert all(torch.equal(one[name], two[name]) and torch.equal(one[name], three[name]) for name in one)


def test_the_clean_view_uses_the_teachers_own_preprocessing(tmp_path: Path, digits_npz: Path, tiny_model: Path) -> None:
    """A student of 16 px learns from a teacher of 32 px, who prepares each picture in its own way."""
    with pytest.raises(BadInput, match=r"the teacher tiny sees pictures of another size .*--view clean"):
        distill(None, tmp_path / "s.pt", config(digits_npz, tiny_model, arch=SMALL, size=16))
    made = distill(None, tmp_path / "s.pt", config(digits_npz, tiny_model, arch=SMALL, size=16, view="clean"))
    assert read_model_file(made.output).preprocessing.size == (16, 16)


def test_a_teacher_of_bare_tensors_is_taken_as_the_student(
    tmp_path: Path, digits_npz: Path, tiny_model: Path, listening: Listening
) -> None:
    bare = tmp_path / "bare.pth"
    torch.save(torch.load(tiny_model)["tensors"], bare)
    with pytest.raises(BadInput, match="fits 2 networks that answer differently"):
        distill(None, tmp_path / "s.pt", config(digits_npz, bare, arch=SMALL))
    made = distill(tiny_model, tmp_path / "s.pt", config(digits_npz, bare, lr=1e-4), progress=listening)
    assert any("bare: its tensors are taken as deploykit:resnet:" in line for line in listening.heard)
    assert made.facts["teachers"][0]["target"] == "torch-eager"


def test_masks_are_kept(tmp_path: Path, digits_npz: Path, tiny_model: Path) -> None:
    mask = torch.rand(8, 8, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    given = student(tmp_path / "s.pt", masks={"layer1.0.conv1.weight": mask})
    for fields in ({}, {"features": "hint", "layers": ["layer1"]}):
        made = distill(given, tmp_path / f"out{len(fields)}.pt", config(digits_npz, tiny_model, **fields))
        file = read_model_file(made.output)
        assert file.masks is not None
        assert torch.equal(file.masks["layer1.0.conv1.weight"], mask)
        assert (file.tensors["layer1.0.conv1.weight"][~mask] == 0).all()
        assert (file.tensors["layer1.0.conv1.weight"][mask] != 0).all()


def test_classes_are_mapped_by_name(tmp_path: Path, digits_npz: Path, tiny_model: Path, listening: Listening) -> None:
    names = [f"d{n}" for n in range(10)]
    data = np.load(digits_npz)
    named, turned = tmp_path / "named.npz", tmp_path / "turned.npz"
    parts = {"images": data["images"], "split": data["split"]}
    np.savez(named, labels=data["labels"], classes=np.array(names), **parts)
    np.savez(turned, labels=9 - data["labels"], classes=np.array(names[::-1]), **parts)
    content = torch.load(tiny_model)
    content["classes"] = names
    teacher = tmp_path / "teacher.pt"
    torch.save(content, teacher)
    made = distill(None, tmp_path / "s.pt", config(turned, teacher, arch=SMALL), progress=listening)
    assert any("classes mapped by name" in line for line in listening.heard)
    assert made.facts["teachers"][0]["top1_select"] > 0.7
    assert read_model_file(made.output).classes == tuple(names[::-1])
    numbered = distill(student(tmp_path / "numbered.pt"), None, config(named, teacher), progress=listening)
    assert read_model_file(numbered.output).classes == tuple(names)
    with pytest.raises(BadInput, match="the classes of the model and of the data do not fit: 'eleven' is none"):
        other = student(tmp_path / "other.pt", [*names[:9], "eleven"])
        distill(other, None, config(named, teacher))
    with pytest.raises(BadInput, match="the classes of the model and of the data do not fit"):
        content["classes"] = [*names[:9], "eleven"]
        torch.save(content, tmp_path / "eleven.pt")
        distill(None, tmp_path / "s.pt", config(named, tmp_path / "eleven.pt", arch=SMALL))


def test_a_student_better_than_its_teacher_is_told_of(
    tmp_path: Path, digits_npz: Path, tiny_model: Path, listening: Listening
) -> None:
    weak = student(tmp_path / "weak.pt")
    distill(tiny_model, tmp_path / "out.pt", config(digits_npz, weak, lr=1e-5), progress=listening)
    (line,) = [line for line in listening.heard if "better on select than its teacher weak" in line]
    assert "are the two the wrong way round?" in line
    assert any("now better on select than its teachers" in line for line in listening.heard)


def test_nan_stops_and_the_best_is_kept(
    tmp_path: Path, digits_npz: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploykit.distillation.losses import kd as losses

    calls = []
    real = losses.kd

    def diverging(*args: Any) -> torch.Tensor:
        calls.append(1)
        return real(*args) * (float("nan") if len(calls) > 8 else 1)

    monkeypatch.setattr(losses, "kd", diverging)
    given = student(tmp_path / "small.pt")
    fields = {"epochs": 3, "features": "hint", "layers": ["layer2=layer3"]}
    with pytest.raises(AnswerNo, match=r"in epoch 2.*epoch 1 are kept in .*small\.distilled\.best\.pt"):
        distill(given, None, config(digits_npz, tiny_model, **fields))
    assert read_model_file(tmp_path / "small.distilled.best.pt").tensors.keys() == read_model_file(given).tensors.keys()
    assert not (tmp_path / "small.distilled.pt").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": "dkd", "alpha": 0.5}, "alpha: got 0.5 with loss 'dkd', expected beta"),
        ({"beta": 2}, "beta: got 2.0 with loss 'kd', expected alpha"),
        ({"loss": "dkd", "augment": {"mixup": 0.2}}, "got 'dkd' with mixup or cutmix"),
        ({"view": "clean", "augment": {"cutmix": 0.2}}, "got 'clean' with mixup or cutmix"),
        ({"view": "clean", "features": "hint", "layers": ["layer1"]}, "got 'clean' with features"),
        ({"features": "hint"}, "layers: expected with features"),
        ({"feature_weight": 2}, "feature_weight: expected with features"),
        ({"loss": "fitnet"}, "loss: got 'fitnet', expected 'kd', 'dkd' or 'dist'"),
        ({"temperature": 0}, "temperature: got 0, expected greater than 0"),
        ({"teachers": []}, "teachers"),
    ],
)
def test_wishes_that_contradict_each_other(fields: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        build(DistillConfig, {"data": "digits", "teachers": ["t.pt"], **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"arch": "auto"}, "both a student file and --arch auto are given"),
        ({"teachers": ["gone.pt"]}, r"gone\.pt does not exist"),
        ({"teachers": ["{tiny}", "b={tiny}"]}, r"tiny\.pt is named twice"),
        ({"features": "hint", "layers": ["layr1"]}, "the student has no layer 'layr1'. Did you mean 'layer1'"),
        ({"features": "hint", "layers": ["layer1=layerr1"]}, "the teacher has no layer 'layerr1'"),
        ({"batch": 5000}, "the batch is larger than the train split"),
        ({"size": 8, "view": "clean", "features": None}, None),
    ],
)
def test_bad_wishes(
    tmp_path: Path, digits_npz: Path, tiny_model: Path, fields: dict, message: str | None, listening: Listening
) -> None:
    named = [text.format(tiny=tiny_model) for text in fields.pop("teachers", ["{tiny}"])]
    given = student(tmp_path / "small.pt")
    wanted = config(digits_npz, *named, **fields)
    if message is None:
        assert distill(given, None, wanted).made
        return
    with pytest.raises(BadInput, match=message):
        distill(given, None, wanted, progress=listening)
    assert "batch" in fields or not any("top-1" in line for line in listening.heard)  # told before anything is judged
    assert [path.name for path in tmp_path.iterdir()] == ["small.pt"]


def test_layers_of_an_engine_cannot_be_looked_into(tmp_path: Path, digits_npz: Path, teacher_onnx: Path) -> None:
    with pytest.raises(
        BadInput, match=r"layers of the teacher tiny cannot be looked into; got ort-cpu; expected a model file"
    ):
        distill(student(tmp_path / "s.pt"), None, config(digits_npz, teacher_onnx, features="hint", layers=["layer1"]))
    with pytest.raises(BadInput, match=r"the family of the teacher tiny cannot be looked into; .*--arch SOURCE:NAME"):
        distill(None, tmp_path / "a.pt", config(digits_npz, teacher_onnx, arch="auto"))


def test_what_is_missing_is_said_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no student; expected a model file, or --arch\. Try --arch auto\."):
        distill(None, tmp_path / "s.pt", config("no-such-data", "gone.pt"))
    with pytest.raises(BadInput, match=r"ends with \.pt"):
        distill(tmp_path / "s.pt", tmp_path / "s.onnx", config("no-such-data", "gone.pt"))
    with pytest.raises(BadInput, match=r"s\.onnx cannot be trained; expected the model file that it was exported from"):
        distill(tmp_path / "s.onnx", None, config("no-such-data", "gone.pt"))
    (tmp_path / "mine.pt").write_text("mine")
    with pytest.raises(BadInput, match="exists and was not made by deploykit"):
        distill(None, tmp_path / "mine.pt", config("no-such-data", "gone.pt", arch=SMALL))


class Interrupting(Listening):
    """Presses Ctrl-C when the second epoch is told."""

    def say(self, message: str) -> None:
        super().say(message)
        if message.startswith("epoch 2/"):
            raise KeyboardInterrupt


@pytest.mark.parametrize("fields", [{}, {"features": "hint", "layers": ["layer2=layer3"], "ema": 0.9}], ids=str)
def test_an_interrupted_run_goes_on_to_the_same_bits(
    tmp_path: Path, digits_npz: Path, tiny_model: Path, fields: dict, listening: Listening
) -> None:
    wanted = config(digits_npz, tiny_model, epochs=3, augment={"shift_px": 2}, **fields)
    given = student(tmp_path / "s.pt")
    with pytest.raises(KeyboardInterrupt):
        distill(given, None, wanted, progress=Interrupting())
    resumed = distill(given, None, wanted, progress=listening)
    assert any(line.startswith("going on after epoch 1 of 3") for line in listening.heard)
    whole = distill(given, tmp_path / "whole.pt", wanted)
    for part in ("tensors", "ema"):
        one, two = (getattr(read_model_file(made.output), part) for made in (resumed, whole))
        assert (one is None) == (two is None)
        assert one is None or all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("view", ["same", "clean"])
def test_a_cache_that_takes_no_files_is_told_of_once_and_stops_nothing(
    view: str, tmp_path: Path, digits_npz: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, listening: Listening
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(tmp_path / "file"))
    made = distill(None, tmp_path / "s.pt", config(digits_npz, tiny_model, arch=SMALL, view=view), progress=listening)
    assert made.output.exists()
    told = [line for line in listening.heard if "nothing is kept in the cache folder" in line]
    assert len(told) == 1
    assert str(tmp_path / "file") in told[0]


def test_clean_answers_that_are_much_are_only_of_the_run(
    tmp_path: Path, digits_npz: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploykit.distillation import cache as kept

    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "MOST_EPOCH_BYTES", 100)
    distill(None, tmp_path / "s.pt", config(digits_npz, tiny_model, arch=SMALL, view="clean"))
    assert not list(tmp_path.glob("cache/**/*.npy"))
