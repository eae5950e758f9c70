from __future__ import annotations

import resource
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deploykit.base.artifact import is_unmodified, read_manifest
from deploykit.base.errors import AnswerNo, BadInput, SystemTrouble, Unavailable
from deploykit.commands.train import train
from deploykit.config.train import TrainConfig
from tests.listening import Listening
from tests.model_files import read_model_file

NET = {"arch": "deploykit:resnet", "kwargs": {"depth": 8, "widths": [8, 8, 16], "stem_stride": 2}}


def config(data: Any, **fields: Any) -> TrainConfig:
    fields = {"model": NET, "epochs": 1, "batch": 32, "threads": 1, "device": "cpu", **fields}
    return TrainConfig(data=str(data), **fields)


def test_the_file_carries_all_that_others_need(tmp_path: Path, digits_npz: Path) -> None:
    result = train(tmp_path / "model.pt", config(digits_npz, epochs=2, ema=0.9))
    file = read_model_file(result.output)
    assert file.classes == tuple(str(n) for n in range(10))
    assert file.ema is not None
    assert file.samples is not None
    assert file.samples["images"].shape == (32, 32, 32, 3)
    assert file.samples["images"].dtype == torch.uint8
    assert file.preprocessing.size == (32, 32)
    (entry,) = file.lineage
    assert entry["stage"] == "train"
    assert entry["config"]["data"] == digits_npz.name
    assert entry["result"]["top1_select"] == result.facts["top1_select"]
    manifest = read_manifest(result.output)
    assert manifest is not None
    assert is_unmodified(result.output, manifest)
    assert manifest.kind == "model"
    assert [parent.role for parent in manifest.parents] == ["data"] * 3
    assert str(tmp_path) not in str(manifest) + str(file.lineage)
    names = {"model.pt", "model.pt.attachments.json", "model.pt.manifest.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert "top-1" in result.summary()
    assert "select pictures" in result.summary()


def test_the_stored_top1_is_that_of_the_stored_weights(tmp_path: Path, digits_npz: Path) -> None:
    from deploykit.data import open_data, prepare
    from deploykit.models import load_model

    result = train(tmp_path / "model.pt", config(digits_npz, epochs=4, lr=0.05))
    loaded = load_model(result.output)
    select = open_data(str(digits_npz)).split("select")
    x = prepare([select.image(i) for i in range(len(select))], loaded.preprocessing)
    with torch.inference_mode():
        top1 = (loaded.module(torch.from_numpy(x)).argmax(1).numpy() == select.labels).mean()
    assert top1 == pytest.approx(result.facts["top1_select"])


def test_the_same_again_does_nothing_and_another_replaces_it(tmp_path: Path, digits_npz: Path) -> None:
    first = train(tmp_path / "model.pt", config(digits_npz))
    before = first.output.read_bytes()
    again = train(tmp_path / "model.pt", config(digits_npz))
    assert not again.made
    assert again.facts == first.facts
    assert again.output.read_bytes() == before
    assert "nothing done" in again.summary()
    assert train(tmp_path / "model.pt", config(digits_npz, seed=1)).made
    assert first.output.read_bytes() != before


def test_a_second_run_of_one_output_waits_for_the_first(tmp_path: Path, digits_npz: Path, listening: Listening) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from deploykit.base.lock import alone_with

    target = tmp_path / "model.pt"
    with ThreadPoolExecutor(1) as other:
        with alone_with(target):
            second = other.submit(train, target, config(digits_npz), progress=listening)
            while not listening.heard and not second.done():
                time.sleep(0.01)
            assert listening.heard == [f"Another process is at work on {target}: waiting for it to end."]
            first = train_holding_the_lock(target, digits_npz)
        result = second.result()
    assert first.made
    assert not result.made
    assert result.facts == first.facts


def train_holding_the_lock(target: Path, data: Path) -> Any:
    """What a first run does: a name of its own for the lock, because this one is held."""
    place = target.with_name("elsewhere") / target.name
    place.parent.mkdir()
    made = train(place, config(data))
    for path in place.parent.iterdir():
        path.rename(target.with_name(path.name))
    return made


def test_without_a_place_for_locks_training_goes_on_and_says_so(
    tmp_path: Path, digits_npz: Path, monkeypatch: pytest.MonkeyPatch, listening: Listening
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(tmp_path / "file"))
    assert train(tmp_path / "model.pt", config(digits_npz), progress=listening).made
    assert "would disturb each other: cannot lock in" in listening.heard[0]


def test_arguments_that_contradict_the_start_file_are_refused(tmp_path: Path, digits_npz: Path) -> None:
    start = train(tmp_path / "start.pt", config(digits_npz)).output
    model = {"weights": str(start), "arch": "deploykit:resnet"}
    assert train(tmp_path / "same.pt", config(digits_npz, model={**model, "kwargs": {"depth": 8}})).made
    with pytest.raises(
        BadInput, match=r"carries its own architecture; got deploykit:resnet:depth=14; expected .*depth=8"
    ):
        train(tmp_path / "other.pt", config(digits_npz, model={**model, "kwargs": {"depth": 14}}))


def test_a_foreign_or_modified_output_stays(tmp_path: Path, digits_npz: Path) -> None:
    foreign = tmp_path / "model.pt"
    foreign.write_text("mine")
    with pytest.raises(BadInput, match="exists and was not made by deploykit"):
        train(foreign, config(digits_npz))
    assert foreign.read_text() == "mine"
    assert train(foreign, config(digits_npz), force=True).made
    foreign.write_bytes(foreign.read_bytes() + b"x")
    with pytest.raises(BadInput, match="was modified since"):
        train(foreign, config(digits_npz, seed=1))


def test_fine_tuning_keeps_rows_by_name_or_replaces_the_head(
    tmp_path: Path, digits_npz: Path, listening: Listening
) -> None:
    start = train(tmp_path / "start.pt", config(digits_npz)).output
    data = np.load(digits_npz)
    names = [f"{n}" for n in range(10)]
    shuffled = tmp_path / "shuffled.npz"
    np.savez(
        shuffled, images=data["images"], labels=9 - data["labels"], classes=np.array(names[::-1]), split=data["split"]
    )
    model = {"weights": str(start), "freeze": True}
    done = train(tmp_path / "by_name.pt", config(shuffled, model=model, lr=1e-12, weight_decay=0), progress=listening)
    before, after = read_model_file(start).tensors, read_model_file(done.output).tensors
    assert "the head fc is kept, its classes mapped by name" in listening.said
    assert torch.allclose(after["fc.weight"], before["fc.weight"].flip(0))
    assert torch.equal(after["bn1.running_mean"], before["bn1.running_mean"])
    few = tmp_path / "few.npz"
    keep = data["labels"] < 4
    np.savez(few, images=data["images"][keep], labels=data["labels"][keep], split=data["split"][keep])
    done = train(tmp_path / "few.pt", config(few, model=model), progress=listening)
    assert "the head fc is new: 10 outputs before, 4 classes in the data" in listening.said
    file = read_model_file(done.output)
    assert file.tensors["fc.weight"].shape[0] == 4
    assert torch.equal(file.tensors["conv1.weight"], before["conv1.weight"])
    assert [entry["stage"] for entry in file.lineage] == ["train", "train"]
    assert any(parent["role"] == "model" for parent in file.lineage[1]["parents"])


def test_another_network_than_the_start_files(tmp_path: Path, digits_npz: Path, tiny_model: Path) -> None:
    with pytest.raises(
        BadInput, match=r"tiny\.pt carries its own architecture; got deploykit:cnn4; expected deploykit:resnet"
    ):
        train(tmp_path / "m.pt", config(digits_npz, model={"arch": "deploykit:cnn4", "weights": str(tiny_model)}))


def test_nan_weights_in_the_start_file(tmp_path: Path, digits_npz: Path, tiny_model: Path) -> None:
    content = torch.load(tiny_model)
    content["tensors"]["fc.bias"][3] = float("nan")
    bad = tmp_path / "bad.pt"
    torch.save(content, bad)
    with pytest.raises(BadInput, match=r"bad\.pt: the tensor fc\.bias holds NaN"):
        train(tmp_path / "model.pt", config(digits_npz, model={"weights": str(bad)}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch": 5000}, "the batch is larger than the train split; got batch 5000"),
        ({"model": {"arch": "deploykit:resnett"}}, "unknown deploykit network 'resnett'.*Did you mean 'resnet'"),
        ({"model": {"arch": "nowhere:net"}}, r"nowhere"),
        ({"model": {"weights": "gone.pt"}}, r"gone\.pt"),
        ({"model": {"arch": "deploykit:cnn4"}, "size": 20}, "20"),
        ({"model": {"weights": "x.pt", "kwargs": {"depth": 8}}}, "arguments of an architecture that is not named"),
        ({"precision": "fp16"}, "mixed fp16 trains on a GPU only"),
    ],
)
def test_bad_wishes(tmp_path: Path, digits_npz: Path, fields: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        train(tmp_path / "model.pt", config(digits_npz, **fields))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU")
def test_no_gpu(tmp_path: Path, digits_npz: Path) -> None:
    with pytest.raises(Unavailable, match="no CUDA GPU"):
        train(tmp_path / "model.pt", config(digits_npz, device="cuda"))


def test_a_missing_folder_is_said_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"the folder .*gone does not exist"):
        train(tmp_path / "gone" / "model.pt", config("no-such-data"))
    with pytest.raises(BadInput, match=r"ends with \.pt"):
        train(tmp_path / "model.onnx", config("no-such-data"))


def test_one_class_and_broken_pictures(tmp_path: Path, image_folder: Path) -> None:
    (image_folder / "zero" / "00.png").write_bytes(b"not a picture")
    with pytest.raises(BadInput, match=r"00\.png"):
        train(tmp_path / "m.pt", config(image_folder, batch=8))
    assert train(tmp_path / "m.pt", config(image_folder, batch=8, skip_broken=True)).made
    for name in ("one", "two", "three"):
        for path in (image_folder / name).iterdir():
            path.unlink()
        (image_folder / name).rmdir()
    with pytest.raises(BadInput, match=r"one class|has no labels, which training needs"):
        train(tmp_path / "n.pt", config(image_folder, batch=2, skip_broken=True))


def test_a_loss_that_diverges_keeps_the_best_epoch(tmp_path: Path, digits_npz: Path) -> None:
    wild = config(digits_npz, epochs=4, lr=1e38, warmup_epochs=2, momentum=0.0, schedule="constant")
    with pytest.raises(AnswerNo, match="the loss became NaN or infinite in epoch 1, step"):
        train(tmp_path / "model.pt", wild)
    assert list(tmp_path.iterdir()) == []


def test_the_best_epoch_before_nan_is_kept(tmp_path: Path, digits_npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploykit.training import step as steps

    real = steps.functional.cross_entropy
    calls = []

    def diverging(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(1)
        return real(*args, **kwargs) * (float("inf") if len(calls) > 8 else 1)

    monkeypatch.setattr(steps.functional, "cross_entropy", diverging)
    with pytest.raises(AnswerNo, match=r"in epoch 2, step .*the weights of epoch 1 are kept in .*model\.best\.pt"):
        train(tmp_path / "model.pt", config(digits_npz, epochs=3))
    assert torch.isfinite(read_model_file(tmp_path / "model.best.pt").tensors["fc.weight"]).all()
    assert not (tmp_path / "model.pt").exists()
    assert not (tmp_path / ".model.pt.resume").exists()


def test_a_full_disk(tmp_path: Path, digits_npz: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(SystemTrouble, match=r"cannot write .*model\.pt\.resume"):
            train(tmp_path / "model.pt", config(digits_npz))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []
