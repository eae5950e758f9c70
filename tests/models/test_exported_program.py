"""``.pt2``: opened where nothing in the archive needs unpickling, refused otherwise."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from deploykit.base.errors import BadInput
from deploykit.models import build, load_model


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    torch.manual_seed(0)
    module = build("deploykit:resnet:depth=8,widths=[8, 8, 8]", 4).eval()
    exported = torch.export.export(
        module, (torch.zeros(2, 3, 32, 32),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    torch.export.save(exported, path)
    return path, module


def test_round_trip(program: tuple[Path, torch.nn.Module]) -> None:
    path, module = program
    loaded = load_model(path)
    assert loaded.program is not None
    assert loaded.preprocessing is not None
    assert loaded.preprocessing.size == (32, 32)
    assert loaded.arch.kwargs == {"num_classes": 4}
    loaded.module.eval()
    for batch in (1, 3):
        x = torch.randn(batch, 3, 32, 32)
        torch.testing.assert_close(loaded.module(x), module(x), rtol=1e-5, atol=1e-6)
    with pytest.raises(BadInput, match="cannot be built anew"):
        build(loaded.arch)


def _changed(path: Path, target: Path, change: Callable[[str, bytes], bytes], extra: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        root = old.namelist()[0].split("/")[0]
        for name, content in extra.items():
            new.writestr(f"{root}/{name}", content)
    return target


class Evil:
    def __reduce__(self) -> tuple:
        return (exec, ("import pathlib; pathlib.Path('owned').touch()",))


def _pickled_weight(name: str, content: bytes) -> bytes:
    if not name.endswith("model_weights_config.json"):
        return content
    config = json.loads(content)
    config["config"]["fc.bias"]["use_pickle"] = True
    return json.dumps(config).encode()


def _replaced(old: str, new: str) -> Callable[[str, bytes], bytes]:
    return lambda name, content: (
        content.replace(old.encode(), new.encode()) if name.endswith("models/model.json") else content
    )


CASES: dict[str, tuple[Callable[[str, bytes], bytes], dict[str, bytes], str]] = {
    "pickled weight": (_pickled_weight, {}, "the pickled object fc.bias"),
    "custom object": (lambda _, c: c, {"data/constants/custom_obj_0": pickle.dumps(Evil())}, "custom_obj_0"),
    "legacy weights": (lambda _, c: c, {"data/weights/model.pt": pickle.dumps(Evil())}, "model.pt"),
    "compiled code": (lambda _, c: c, {"data/aotinductor/model/x.so": b"\x7fELF"}, "compiled code"),
    "expression": (
        _replaced("Symbol('s77'", "__import__('os').system('touch owned') or Symbol('s77'"),
        {},
        "expression",
    ),
    "operator": (_replaced("torch.ops.aten.conv2d.default", "torch.os.system"), {}, "the operator torch.os.system"),
    "samples": (
        lambda name, content: pickle.dumps(Evil()) if name.endswith("sample_inputs/model.pt") else content,
        {},
        "sample inputs of foreign classes",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_archives_that_would_run_code_are_refused(
    program: tuple[Path, torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    change, extra, text = CASES[case]
    with pytest.raises(BadInput) as caught:
        load_model(_changed(program[0], tmp_path / "evil.pt2", change, extra))
    assert text in caught.value.line()
    assert not (tmp_path / "owned").exists()


def test_damaged_and_foreign_archives(program: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    content = program[0].read_bytes()
    (tmp_path / "cut.pt2").write_bytes(content[: len(content) // 2])
    with pytest.raises(BadInput, match=r"truncated or damaged \.pt2"):
        load_model(tmp_path / "cut.pt2")
    torch.save({"w": torch.zeros(1)}, tmp_path / "weights.pt2")
    with pytest.raises(BadInput, match=r"is no \.pt2"):
        load_model(tmp_path / "weights.pt2")
    (tmp_path / "named.pt").write_bytes(content)
    with pytest.raises(BadInput, match=r"is an exported program\. Give it the suffix \.pt2"):
        load_model(tmp_path / "named.pt")


def test_training_mode_is_refused(tmp_path: Path) -> None:
    module = build("deploykit:cnn4", 3).train()
    torch.export.save(torch.export.export(module, (torch.zeros(1, 3, 32, 32),)), tmp_path / "train.pt2")
    with pytest.raises(BadInput, match=r"exported in training mode.*model\.eval\(\)"):
        load_model(tmp_path / "train.pt2")
