"""The other side of a comparison: run folders, bundles from anywhere, git revisions."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from deploykit.base.errors import AnswerNo, BadInput
from deploykit.benchmarking.against import other_side, unpack
from deploykit.benchmarking.run_folder import specs_of_run
from deploykit.commands.benchmark import benchmark
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.reporting import read_report

QUICK = {"max_time_s": 0.5, "min_blocks": 5, "block_ms": 2.0, "until": 0.9, "end_to_end": False, "images": 20}


def _git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model, tiny_onnx, digits_npz) -> Path:
    """A run folder that holds its model."""
    folder = tmp_path_factory.mktemp("against") / "run"
    folder.mkdir()
    shutil.copy(tiny_model, folder / "model.pt")
    shutil.copy(tiny_onnx, folder / "model.onnx")
    specs = [f"plain={folder / 'model.onnx'}", f"last={folder / 'model.onnx'}@ort-cpu:optimization=none"]
    benchmark(specs, folder, BenchmarkConfig(data=str(digits_npz), **QUICK), force=True)
    return folder


@pytest.fixture(scope="module")
def compared(run, tmp_path_factory, digits_npz) -> Path:
    """The same run folder measured against a bundle of itself."""
    folder = tmp_path_factory.mktemp("compared")
    bundle = folder / "old.zip"
    with zipfile.ZipFile(bundle, "w") as packed:
        for path in run.rglob("*"):
            packed.write(path, Path("old") / path.relative_to(run))
    benchmark([str(run)], folder / "new", BenchmarkConfig(data=str(digits_npz), against=str(bundle), **QUICK))
    return folder / "new"


def test_both_sides_are_measured_in_the_same_rounds(compared: Path) -> None:
    report = read_report(compared)
    assert report.against == "old.zip"
    found = {one.name: one for one in report.variants}
    assert list(found) == ["plain", "last", "plain@base", "last@base"]
    for name in ("plain", "last"):
        other = found[name].against
        assert other.name == f"{name}@base"
        assert other.agreement == 1
        assert other.drop_pt == 0
        assert 0.2 < other.speedup.estimate < 5
        primary = [found[one].measurements[0] for one in (name, f"{name}@base")]
        assert primary[0].blocks == primary[1].blocks
    nodes = {name: found[name].audit["nodes"] for name in found}
    assert nodes["last@base"] == nodes["last"]  # the options of the target were recorded, too
    assert nodes["last"] != nodes["plain"]
    assert found["plain@base"].artifact.path == "model.onnx"


def test_the_pages_show_the_comparison(compared: Path) -> None:
    page = (compared / "report.html").read_text(encoding="utf-8")
    assert "Against old.zip" in page
    assert "the same file: any difference is noise" in page
    assert "Against old.zip, measured in the same rounds" in (compared / "report.md").read_text(encoding="utf-8")
    manifest = json.loads((compared / "report.json.manifest.json").read_text())
    assert manifest["config"]["against"] == "old.zip"


def test_a_changed_or_missing_artifact_is_refused(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "model.onnx").write_bytes((run / "model.onnx").read_bytes() + b"x")
    with pytest.raises(BadInput, match="is not the file any more that was measured"):
        specs_of_run(copy)
    (copy / "model.onnx").unlink()
    with pytest.raises(BadInput, match=r"model\.onnx is not there"):
        specs_of_run(copy)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("name", ["../outside.txt", "/etc/outside", "a/../../outside.txt", "C:\\outside"])
def test_a_bundle_cannot_write_outside(tmp_path: Path, kind: str, name: str) -> None:
    bundle = tmp_path / f"b.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(bundle, "w") as packed:
            packed.writestr("report.json", "{}")
            packed.writestr(name, "x")
    else:
        with tarfile.open(bundle, "w:gz") as packed:
            for one in ("report.json", name):
                member = tarfile.TarInfo(one)
                member.size = 1
                packed.addfile(member, io.BytesIO(b"x"))
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(BadInput, match="holds a path that leaves it"):
        unpack(bundle, place)
    assert not (tmp_path / "outside.txt").exists()


def test_links_broken_and_empty_bundles_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "links.tar", "w") as packed:
        member = tarfile.TarInfo("report.json")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(member)
    (tmp_path / "torn.zip").write_bytes(b"PK\x03\x04 torn")
    (tmp_path / "torn.tar.gz").write_bytes(b"\x1f\x8b torn")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    for name, message in [
        ("links.tar", "holds a link or a device"),
        ("torn.zip", "cannot be unpacked"),
        ("torn.tar.gz", "cannot be unpacked"),
        ("empty.zip", "holds no run folder"),
    ]:
        place = tmp_path / f"{name}.place"
        place.mkdir()
        with pytest.raises(BadInput, match=message):
            unpack(tmp_path / name, place)


@pytest.fixture
def repository(run: Path, tmp_path: Path, monkeypatch) -> Path:
    root = tmp_path / "repository"
    shutil.copytree(run, root / "runs" / "mine")
    _git(tmp_path, "init", "-q", str(root))
    _git(root, "add", "-A")
    _git(root, "commit", "-qm", "one")
    monkeypatch.chdir(root)
    return root


def test_a_revision_gives_its_run_folder(repository: Path) -> None:
    mine = repository / "runs" / "mine"
    (mine / "model.onnx").write_bytes(b"changed since")
    with other_side("HEAD", ["plain"], mine) as other:
        assert [spec.name for spec in other.specs] == ["plain@base"]
        assert other.specs[0].path.read_bytes() != b"changed since"
        fetched = other.specs[0].path
    assert not fetched.exists()
    with other_side("HEAD:runs/mine", ["last"], None) as other:
        assert other.specs[0].options == {"optimization": "none"}
    assert (mine / "model.onnx").read_bytes() == b"changed since"


def test_what_is_no_reference_is_refused_with_the_mend(repository: Path) -> None:
    for ref, names, run, message in [
        ("nonsense", ["plain"], None, "no run folder, no bundle, and no revision of this repository"),
        ("--output=x", ["plain"], None, "no run folder, no bundle, and no revision"),
        ("HEAD", ["plain"], None, "nothing says which run folder"),
        ("HEAD:runs/none", ["plain"], None, "name the recipe to rebuild it"),
        ("runs/mine", ["other"], None, "has no variant of the same name; got plain, last"),
        ("runs", ["plain"], None, "is no run folder"),
    ]:
        with pytest.raises(BadInput, match=message), other_side(ref, names, run):
            pass


def test_a_recipe_that_fails_is_told_with_its_reason(repository: Path) -> None:
    (repository / "broken.yaml").write_text("version: 1\nname: x\n")
    _git(repository, "add", "broken.yaml")
    _git(repository, "commit", "-qm", "two")
    said = r"broken\.yaml of that revision could not be rebuilt \(exit 2\)"
    with pytest.raises(AnswerNo, match=said), other_side("HEAD:broken.yaml", ["plain"], None):
        pass


@pytest.mark.slow
def test_a_revision_is_rebuilt_by_its_recipe(repository: Path, digits_npz: Path) -> None:
    recipe = f"""
version: 1
name: small
model: {{file: runs/mine/model.pt}}
data: {{name: {digits_npz}}}
variants: {{plain: {{target: torch-eager}}, fp32: {{target: ort-cpu}}}}
"""
    (repository / "small.yaml").write_text(recipe)
    _git(repository, "add", "small.yaml")
    _git(repository, "commit", "-qm", "two")
    with other_side("HEAD:small.yaml", ["plain", "fp32"], None) as other:
        assert [spec.name for spec in other.specs] == ["plain@base", "fp32@base"]
        assert all(spec.path.is_file() for spec in other.specs)
