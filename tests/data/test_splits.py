"""Splits by picture hash: stable, disjoint, the same in every process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit.base.errors import BadInput
from deploykit.data import open_data, source
from deploykit.data.source import DataSource
from deploykit.data.splits import draw, sample
from deploykit.data.stores import Array, Part
from tests.listening import Listening


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)


def made_of(train: np.ndarray, test: np.ndarray, **options) -> DataSource:
    parts = {
        "train": lambda: Part(Array(train), np.arange(len(train)) % 2),
        "test": lambda: Part(Array(test), np.arange(len(test)) % 2),
    }
    return DataSource("made", ("a", "b"), parts, (4, 4), **options)


hashes = st.lists(st.binary(min_size=8, max_size=8).map(bytes.hex), min_size=2, max_size=60, unique=True)


@settings(max_examples=50)
@given(names=hashes, seed=st.integers(0, 99))
def test_draw_does_not_depend_on_order(names: list[str], seed: int) -> None:
    known = np.array(names, dtype="S64")
    order = np.random.default_rng(seed).permutation(len(known))
    np.testing.assert_array_equal(draw(known, "select", 0.3)[order], draw(known[order], "select", 0.3))


def test_draw_keeps_its_choice_when_pictures_are_added() -> None:
    known = np.array([f"{i:064x}" for i in range(2000)], dtype="S64")
    few, many = draw(known[:1500], "test", 0.2), draw(known, "test", 0.2)
    np.testing.assert_array_equal(few, many[:1500])
    assert 0.17 < many.mean() < 0.23
    both = draw(known, "select", 0.2) & many
    assert 0.02 < both.mean() < 0.06  # two purposes draw independently


def test_draw_gives_copies_the_same_side_and_never_everything() -> None:
    known = np.array([b"a", b"b", b"a"])
    chosen = draw(known, "test", 1e-9)
    assert chosen[0] == chosen[2]
    assert chosen.any()
    assert not chosen.all()
    assert not draw(np.array([b"a"]), "test", 1e-9).any()


def test_digits_are_as_said() -> None:
    data = open_data("digits")
    train, select, test = (data.split(name) for name in ("train", "select", "test"))
    assert len(train) + len(select) == 1347
    assert len(test) == 450
    assert 90 < len(select) < 180
    assert data.natural_size == (32, 32)
    assert test.image(0).shape == (32, 32, 3)
    assert test.file_name(0) is None
    whole = np.bincount(np.concatenate([train.labels, select.labels, test.labels]))
    np.testing.assert_allclose(np.bincount(test.labels) / 450, whole / 1797, atol=2 / 450)


PROCESS = (
    "from deploykit.data import open_data;"
    "print([open_data(d).split(s).sha256 for d in ('digits', 'synthetic:3,train=500,test=50') for s in ('train', 'select', 'test')],"
    "__import__('hashlib').sha256(open_data('synthetic:3,test=40').split('test').image(7).tobytes()).hexdigest())"
)


def test_the_same_in_every_process() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROCESS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert len(outputs.pop()) > 6 * 64


def test_opening_data_imports_no_torch() -> None:
    code = "import sys; from deploykit.data import open_data; open_data('digits').split('test'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_batches_keep_order_labels_and_limit() -> None:
    test = open_data("digits").split("test")
    preprocessing = open_data("digits").preprocessing()
    whole = list(test.batches(64, preprocessing))
    assert [len(y) for _, y in whole] == [64] * 7 + [2]
    np.testing.assert_array_equal(np.concatenate([y for _, y in whole]), test.labels)
    some = np.concatenate([y for _, y in test.batches(64, preprocessing, limit=100)])
    np.testing.assert_array_equal(some, test.labels[test.chosen(100)])
    assert len(np.unique(some)) == 10
    with pytest.raises(BadInput, match="batch; got 0; expected at least 1"):
        test.batches(0, preprocessing)


def test_sha256_follows_pictures_and_labels() -> None:
    one = made_of(noise(20), noise(6, 1)).split("test").sha256
    assert one == made_of(noise(20, 5), noise(6, 1)).split("test").sha256
    assert one != made_of(noise(20), noise(6, 2)).split("test").sha256
    parts = {"test": lambda: Part(Array(noise(6, 1)), np.zeros(6, dtype=np.int64))}
    assert one != DataSource("made", ("a", "b"), parts).split("test").sha256


def test_overlap_is_an_error_naming_the_pictures() -> None:
    train, test = noise(20), noise(6, 1)
    test[4] = train[7]
    for split in ("train", "select", "test"):
        with pytest.raises(BadInput) as error:
            made_of(train, test).split(split)
        assert "1 pictures are in train and in test: picture 7 = picture 4" in error.value.line()


def test_overlap_of_a_published_set_leaves_the_copies_out_of_train(listening: Listening) -> None:
    train, test = noise(20), noise(6, 1)
    test[4] = train[7]
    data = made_of(train, test, published=True, progress=listening)
    assert len(data.split("test")) == 6
    assert len(data.split("train")) + len(data.split("select")) == 19
    assert listening.warned == ["made: 1 pictures of train are in test too; they are left out of train"]


def test_evaluating_on_a_big_set_does_not_hash_its_train_pictures(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listening: Listening
) -> None:
    root = tmp_path / "sorted"
    shutil.copytree(image_folder, root / "train")
    shutil.copytree(image_folder, root / "val")
    monkeypatch.setattr(source, "CHECKED_ALWAYS", 10)
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(tmp_path / "cache"))
    data = open_data(str(root), progress=listening)
    assert len(data.split("test")) == 40
    assert any("was not checked, it would read 40 files" in one for one in listening.said)
    with pytest.raises(BadInput, match="40 pictures are in train and in test"):
        data.split("train")
    with pytest.raises(BadInput, match="40 pictures are in train and in test"):
        open_data(str(root)).split("test")  # the hashes are known now


def test_unknown_and_empty_splits() -> None:
    with pytest.raises(BadInput, match="unknown split 'tset'; expected one of train, select, test"):
        open_data("digits").split("tset")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="the split 'select' is empty; got 1 pictures in all"):
        made_of(noise(1), noise(2, 1)).split("select")
    with pytest.raises(BadInput, match="has no split 'train'; expected one of test"):
        open_data("synthetic:0,train=0,test=5").split("train")


def test_labels_out_of_range() -> None:
    parts = {"test": lambda: Part(Array(noise(3)), np.array([0, 2, 1]))}
    with pytest.raises(BadInput, match="made: label of picture 1 in test; got 2; expected 0…1"):
        DataSource("made", ("a", "b"), parts).split("test")


def test_default_preprocessing(image_folder: Path) -> None:
    small = open_data(str(image_folder)).preprocessing()
    assert (small.size, small.resize) == ((32, 32), None)
    assert open_data("digits").preprocessing((48, 48)).size == (48, 48)
    large = DataSource("made", ("a", "b"), {}).preprocessing()
    assert (large.size, large.resize, large.mean) == ((224, 224), 256, (0.485, 0.456, 0.406))
    assert DataSource("made", ("a", "b"), {}).preprocessing((48, 320)).resize is None


def test_which_images_are_looked_at() -> None:
    """Pinned: calibration, pruning, verification and the samples of a model file must see the same images as ever."""
    assert sample(10, 4).tolist() == [0, 2, 5, 7]
    assert sample(10, 4, "ends").tolist() == [0, 3, 6, 9]
    assert sample(10, 4, "drawn", 0).tolist() == [4, 6, 2, 7]
    assert sample(10, 4, "drawn-sorted", 0).tolist() == [2, 4, 6, 7]
    random = np.random.default_rng(7)
    first, second = sample(10, 3, "drawn-sorted", random), sample(10, 3, "drawn", random)
    assert (first.tolist(), second.tolist()) == ([0, 7, 8], [4, 2, 8])


@given(st.integers(0, 300), st.one_of(st.none(), st.integers(0, 400)), st.integers(0, 9))
def test_a_sample_holds_each_image_once(size: int, count: int | None, seed: int) -> None:
    for order in ("spread", "ends", "drawn", "drawn-sorted"):
        found = sample(size, count, order, seed)
        assert len(found) == len(set(found.tolist())) == (size if count is None else min(size, count))
        assert found.dtype == np.int64
        assert not len(found) or 0 <= found.min() <= found.max() < size
        assert order == "drawn" or (np.diff(found) > 0).all()
    drawn, in_order = sample(size, count, "drawn", seed), sample(size, count, "drawn-sorted", seed)
    assert sorted(drawn.tolist()) == in_order.tolist()
