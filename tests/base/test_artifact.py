"""Manifests say what a file is; what disagrees with its manifest is not ours to replace."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploykit.base import artifact
from deploykit.base.artifact import (
    Manifest,
    Parent,
    already_made,
    artifact_sha256,
    files_of,
    is_unmodified,
    manifest_path,
    portable_data_name,
    read_manifest,
    stage_key,
    write_manifest,
)
from deploykit.base.errors import BadInput
from deploykit.base.hashing import combined_sha256, file_sha256, value_sha256
from deploykit.base.preprocessing import Preprocessing

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def made(folder: Path, **changes: object) -> tuple[Path, Manifest]:
    path = folder / "model.onnx"
    path.write_bytes(b"weights")
    manifest = Manifest(
        kind="onnx",
        files=files_of(path),
        stage="export",
        version=1,
        config={"opset": 20},
        parents=(Parent("model", "ab" * 32, "model.pt"),),
        preprocessing=Preprocessing((32, 32)).to_dict(),
        classes=("eins", "zwei"),
        target="ort-cpu",
        precision="fp32",
        facts={"verified_on": "samples"},
    )
    manifest = replace(manifest, **changes)
    write_manifest(path, manifest)
    return path, manifest


def test_round_trip(tmp_path: Path) -> None:
    path, manifest = made(tmp_path)
    read = read_manifest(path)
    assert read is not None
    assert replace(read, measured={}) == manifest
    assert read.measured["created"].endswith("+00:00")
    assert is_unmodified(path, read)


def test_what_was_measured_stands_apart_and_no_key_covers_it(tmp_path: Path) -> None:
    path, manifest = made(tmp_path, measured={"seconds": 2.5})
    read = read_manifest(path)
    assert read is not None
    assert read.measured["seconds"] == 2.5
    assert "created" in read.measured
    assert read.key == replace(manifest, measured={}).key


def test_a_manifest_from_before_there_was_measured_is_read(tmp_path: Path) -> None:
    path, _ = made(tmp_path)
    place = manifest_path(path)
    fields = json.loads(place.read_text())
    fields["created"] = fields.pop("measured")["created"]
    fields["facts"]["seconds"] = 2.5
    place.write_text(json.dumps(fields))
    read = read_manifest(path)
    assert read is not None
    assert read.measured == {"created": fields["created"]}
    assert read.facts["seconds"] == 2.5


@given(value=PLAIN)
def test_value_hashes_survive_json(value: object) -> None:
    assert value_sha256(value) == value_sha256(json.loads(json.dumps(value)))


@given(fields=st.dictionaries(st.text(), st.integers(), min_size=2, max_size=6))
def test_value_hashes_do_not_depend_on_the_order_of_keys(fields: dict[str, int]) -> None:
    assert value_sha256(fields) == value_sha256(dict(reversed(fields.items())))


@given(a=PLAIN, b=PLAIN)
def test_different_values_have_different_hashes(a: object, b: object) -> None:
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (value_sha256(a) == value_sha256(b)) == same


@given(parts=st.lists(st.text(min_size=1), min_size=2, max_size=4, unique=True))
def test_combined_hashes_keep_the_order(parts: list[str]) -> None:
    assert combined_sha256(parts) != combined_sha256(parts[::-1])


@pytest.mark.parametrize(
    "other",
    [
        {"stage": "train"},
        {"version": 2},
        {"config": {"opset": 21}},
        {"parents": ["x"]},
        {"versions": {"torch": "2"}},
        {"hardware": {"gpu": "x"}},
    ],
)
def test_everything_that_decides_a_result_is_in_its_key(other: dict[str, object]) -> None:
    plain: dict[str, object] = {"stage": "export", "version": 1, "config": {"opset": 20}, "parents": ["a"]}
    assert stage_key(**plain) != stage_key(**{**plain, **other})  # type: ignore[arg-type]
    assert stage_key(**plain) == stage_key(**plain, versions={}, hardware={})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["../x.onnx", "/etc/passwd", "sub/x", "..", ".", ""])
def test_a_manifest_may_not_name_files_elsewhere(tmp_path: Path, name: str) -> None:
    path, _ = made(tmp_path, files={name: "0" * 64})
    with pytest.raises(BadInput, match="names a file outside its folder; got"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "is no JSON"),
        ("[]", "is not a manifest we read; got list; expected deploykit.manifest/1"),
        ('{"schema": "deploykit.manifest/9"}', "got deploykit.manifest/9"),
        ('{"schema": "deploykit.manifest/1"}', "cannot be read"),
        ('{"schema": "deploykit.manifest/1", "kind": "x", "files": {}, "stage": "s", "version": 1, "bla": 1}', "bla"),
        ('{"schema": "deploykit.manifest/1", "kind": "x", "files": {}, "stage": "s", "version": 1, "parents": [3]}', "read"),
        (
            '{"schema": "deploykit.manifest/1", "kind": "x", "files": {}, "stage": "s", "version": 1, "preprocessing": {"size": [0, 1]}}',
            "at least 1 pixel",
        ),
    ],
)  # fmt: skip
def test_broken_manifests_are_one_line(tmp_path: Path, content: str, text: str) -> None:
    path = tmp_path / "model.onnx"
    manifest_path(path).write_text(content)
    with pytest.raises(BadInput, match=text.replace("[", r"\[")) as caught:
        read_manifest(path)
    assert "\n" not in caught.value.line()


def test_identical_results_are_not_made_again(tmp_path: Path) -> None:
    path, manifest = made(tmp_path)
    assert already_made(path, manifest.key, force=False) is True
    assert already_made(path, "other", force=False) is False
    assert already_made(path, manifest.key, force=True) is False
    assert already_made(tmp_path / "new.onnx", "x", force=False) is False


def test_foreign_and_modified_outputs_are_left_alone(tmp_path: Path) -> None:
    path, manifest = made(tmp_path)
    path.write_bytes(b"changed by hand")
    with pytest.raises(BadInput, match=r"was modified since deploykit made it\. Choose another -o, or pass --force\."):
        already_made(path, manifest.key, force=False)
    foreign = tmp_path / "mine.onnx"
    foreign.write_bytes(b"x")
    with pytest.raises(BadInput, match="exists and was not made by deploykit"):
        already_made(foreign, "x", force=False)
    assert foreign.read_bytes() == b"x"
    with pytest.raises(BadInput, match="it is a folder"):
        already_made(tmp_path, "x", force=True)
    with pytest.raises(BadInput, match="does not exist"):
        already_made(tmp_path / "none" / "x.onnx", "x", force=True)


def test_a_missing_file_of_an_artifact_is_a_modification(tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    data = tmp_path / "big.onnx.data"
    path.write_bytes(b"graph")
    data.write_bytes(b"weights")
    manifest = Manifest("onnx", files_of(path, data), "export", 1)
    write_manifest(path, manifest)
    whole = artifact_sha256(path)
    assert whole != file_sha256(path)
    data.write_bytes(b"others!")
    assert artifact_sha256(path) != whole
    data.unlink()
    assert not is_unmodified(path, manifest)


def test_the_hash_of_a_lone_file_is_the_files(tmp_path: Path) -> None:
    path, _ = made(tmp_path)
    assert artifact_sha256(path) == file_sha256(path)


@given(
    size=st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic"]),
    embedded=st.booleans(),
)
def test_preprocessing_round_trip(size: tuple[int, int], interpolation: str, embedded: bool) -> None:
    one = Preprocessing(size, None, interpolation, embedded=embedded)
    assert Preprocessing.from_dict(json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize(
    ("given", "stated"),
    [
        ("digits", "digits"),
        ("synthetic:3,train=9", "synthetic:3,train=9"),
        ("../pets", "../pets"),
        ("/srv/pets", "pets"),
        ("imagenet:/srv/imagenet", "imagenet:imagenet"),
        ("cifar10:data/cifar", "cifar10:data/cifar"),
    ],
)
def test_artifacts_state_data_without_the_paths_of_a_machine(given, stated):
    assert portable_data_name(given) == stated


def test_what_is_interrupted_before_its_manifest_is_claimed_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.engine"
    with monkeypatch.context() as patch:
        patch.setattr(artifact, "write_manifest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            artifact.write_artifact(path, b"plan", Manifest("engine", {}, "build", 1))
    assert not already_made(path, "", force=False)
    written = artifact.write_artifact(path, b"plan", Manifest("engine", {}, "build", 1))
    found = read_manifest(path)
    assert found is not None
    assert found.files == written.files == files_of(path)
    assert already_made(path, written.key, force=False)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["m.engine", "m.engine.manifest.json"]
