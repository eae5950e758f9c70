"""Reading tensor files: what is refused, and in which words."""

from __future__ import annotations

import argparse
import errno
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from deploykit.base.checkpoint import parse_model_file, read_tensors, save_tensors, write_model_file
from deploykit.base.errors import BadInput, SystemTrouble
from tests.model_files import read_model_file


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hi")


def _truncated(path: Path) -> None:
    torch.save({"w": torch.zeros(4000)}, path)
    path.write_bytes(path.read_bytes()[:8000])


def _newer_pickle(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps({"w": b"0" * 9}, protocol=4))
        archive.writestr("m/version", "3")


FOREIGN = {
    "newer.pt": (_newer_pickle, "newer.pt is a damaged .pt file: Unsupported operand 149"),
    "empty.pt": (lambda p: p.touch(), "is empty"),
    "text.pt": (lambda p: p.write_text("epochs: 3\n"), "it is text"),
    "picture.pt": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)), "it is a PNG picture"),
    "model.pt": (lambda p: p.write_bytes(b"\x08\x08\x12\x07pytorch" + bytes(99)), "it is an ONNX model"),
    "noise.pt": (lambda p: p.write_bytes(bytes(range(128, 256)) * 4), "is no PyTorch file, or a truncated one"),
    "archive.pt": (_zip, "a zip archive that PyTorch did not write; got hello.txt"),
    "truncated.pt": (_truncated, "truncated or damaged"),
    "module.pt": (lambda p: torch.save(torch.nn.Linear(2, 2), p), "class torch.nn.modules.linear.Linear"),
    "old.pt": (
        lambda p: torch.save(torch.nn.Linear(2, 2), p, _use_new_zipfile_serialization=False),
        "class torch.nn.modules.linear.Linear",
    ),
    "lightning.ckpt": (
        lambda p: torch.save({"state_dict": {"w": torch.zeros(1)}, "hyper_parameters": argparse.Namespace(lr=1)}, p),
        "class argparse.Namespace",
    ),
    "bad.safetensors": (lambda p: p.write_bytes(b"abc" * 40), "no readable .safetensors file"),
    "pickle.pt": (lambda p: p.write_bytes(pickle.dumps({"w": np.zeros(3)})), "is no PyTorch file"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_get_one_clear_line(tmp_path: Path, name: str) -> None:
    make, text = FOREIGN[name]
    make(tmp_path / name)
    with pytest.raises(BadInput) as caught:
        read_tensors(tmp_path / name)
    assert text in caught.value.line()
    assert "\n" not in caught.value.line()


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_refused_with_the_lines_that_save_a_state_dict(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    with pytest.raises(BadInput, match=r"TorchScript.*torch\.save\(.*state_dict"):
        read_tensors(tmp_path / "script.pt")


def test_unpickling_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"w": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(BadInput, match="holds objects of class"):
        read_tensors(tmp_path / "evil.pt")
    assert not (tmp_path / "owned").exists()


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        read_tensors(tmp_path / "none.pt")
    with pytest.raises(BadInput, match="is a folder"):
        read_tensors(tmp_path)


def test_other_format_version_and_damaged_fields(tmp_path: Path, tiny_model: Path) -> None:
    content = read_tensors(tiny_model)
    with pytest.raises(BadInput, match="Update deploykit"):
        parse_model_file({**content, "format": "deploykit.model/9"}, tiny_model)
    for field in ("arch", "preprocessing", "classes", "tensors"):
        broken = {key: value for key, value in content.items() if key != field}
        with pytest.raises(BadInput, match="damaged deploykit model file"):
            parse_model_file(broken, tiny_model)


def test_every_truncation_of_a_model_file_is_bad_input(tmp_path: Path, tiny_model: Path) -> None:
    content = tiny_model.read_bytes()
    for share in (0.001, 0.1, 0.5, 0.9, 0.999):
        path = tmp_path / "cut.pt"
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(BadInput):
            read_tensors(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_told_by_its_own_number() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        save_tensors({"w": torch.zeros(100_000)}, Path("/dev/full"))
    assert caught.value.errno == errno.ENOSPC


def test_a_write_that_fails_for_another_reason_is_not_called_a_full_disk(tmp_path: Path, tiny_model: Path) -> None:
    resource = pytest.importorskip("resource")
    model, target = read_model_file(tiny_model), tmp_path / "model.pt"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(SystemTrouble, match=r"cannot write .*model\.pt: File too large"):
            write_model_file(target, model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_stored_is_no_trouble_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises((AttributeError, pickle.PicklingError), match="pickle"):
        save_tensors({"w": lambda: None}, tmp_path / "model.pt")


def test_samples_that_are_no_pictures_are_damage(tiny_model: Path) -> None:
    content = read_tensors(tiny_model)
    for images in (torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8, 3), torch.zeros(3, 8, 8, 3, dtype=torch.uint8)):
        broken = {**content, "samples": {"images": images, "labels": torch.zeros(2, dtype=torch.int64)}}
        with pytest.raises(BadInput, match=r"damaged deploykit model file: samples of shape"):
            parse_model_file(broken, tiny_model)


def test_equal_content_makes_equal_bytes_wherever_its_values_came_from(tmp_path: Path) -> None:
    name = "layer.weight"
    weight = torch.arange(24.0).reshape(2, 1, 3, 4)
    shared = {"arch": {"name": name, "kwargs": {"widths": [8, 8], "part": name}}, "list": [name], "w": weight}
    loaded = json.loads(json.dumps({key: value for key, value in shared.items() if key != "w"})) | {"w": weight.clone()}
    for number, content in enumerate((shared, loaded)):
        save_tensors(content, tmp_path / f"{number}.pt")
    assert (tmp_path / "0.pt").read_bytes() == (tmp_path / "1.pt").read_bytes()


def test_a_model_file_does_not_tell_in_which_layout_its_tensors_lay(tmp_path: Path, tiny_model: Path) -> None:
    file = read_model_file(tiny_model)
    write_model_file(tmp_path / "a.pt", file)
    file.tensors = {
        name: one.to(memory_format=torch.channels_last) if one.dim() == 4 else one for name, one in file.tensors.items()
    }
    write_model_file(tmp_path / "b.pt", file)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
