"""Images without labels: flat and nested folders, and lists of paths."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploykit.base.errors import BadInput
from deploykit.data import DataSource, open_data
from tests.listening import Listening


def write(folder: Path, count: int, seed: int = 0) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = [folder / f"{index:03}.png" for index in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path)
    return paths


def names(data: DataSource, split: str) -> list[str]:
    part = data.split(split)  # type: ignore[arg-type]
    return [str(part.file_name(i)) for i in range(len(part))]


@pytest.mark.parametrize("place", [".", "one", "one/deeper"])
def test_a_folder_without_class_folders(tmp_path: Path, place: str, listening: Listening) -> None:
    paths = write(tmp_path / "photos" / place, 100)
    data = open_data(str(tmp_path / "photos"), progress=listening)
    train, select = names(data, "train"), names(data, "select")
    assert sorted(train + select) == [os.path.normpath(path) for path in map(str, paths)]
    assert 3 <= len(select) <= 20
    assert names(data, "test") == select
    assert (data.classes, data.natural_size, data.split("train").labelled) == ((), (12, 10), False)
    assert "100 images without labels" in listening.said[0]
    with pytest.raises(BadInput, match="has no labels, which training needs"):
        data.need_labels("training")


def test_flat_train_and_val(tmp_path: Path) -> None:
    write(tmp_path / "d" / "train", 60)
    val = write(tmp_path / "d" / "val", 7, seed=1)
    data = open_data(str(tmp_path / "d"))
    assert names(data, "test") == [str(path) for path in val]
    assert len(data.split("train")) + len(data.split("select")) == 60


def test_loose_images_beside_class_folders_are_left_out(tmp_path: Path, listening: Listening) -> None:
    for seed, place in enumerate(("cat", "dog", ".")):
        write(tmp_path / "d" / place, 12, seed)
    data = open_data(str(tmp_path / "d"), progress=listening)
    assert data.classes == ("cat", "dog")
    assert "12 images beside the class folders" in listening.warned[0]


def test_a_list_names_its_images_beside_it_or_in_full(tmp_path: Path) -> None:
    near, far = write(tmp_path / "here" / "a", 30), write(tmp_path / "far", 10, seed=1)
    lines = [f"a/{path.name}" for path in near] + [str(path) for path in far] + ["", f"a/{near[0].name}"]
    (tmp_path / "here" / "images.txt").write_text("\n".join(lines))
    data = open_data(str(tmp_path / "here" / "images.txt"))
    assert sorted(names(data, "train") + names(data, "select")) == sorted(map(str, [*near, *far]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no images"),
        ("\n \n", "names no images"),
        ("a.png\nb.png", r"1 of 2 images do not exist: .*b\.png \(line 2\)"),
        ("../out.png", r"line 1: \.\./out\.png lies outside the folder of images\.txt"),
        ("a.png\n../x/../../out.png", "line 2: .* lies outside"),
    ],
)
def test_a_list_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "d").mkdir()
    write(tmp_path / "d", 1)[0].rename(tmp_path / "d" / "a.png")
    (tmp_path / "d" / "images.txt").write_text(text)
    with pytest.raises(BadInput, match=message):
        open_data(str(tmp_path / "d" / "images.txt"))
    (tmp_path / "d" / "images.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="no list of images in UTF-8"):
        open_data(str(tmp_path / "d" / "images.txt"))


def test_broken_images_are_left_out_where_asked(tmp_path: Path, listening: Listening) -> None:
    paths = write(tmp_path / "d", 20)
    paths[3].write_bytes(b"no image")
    data = open_data(str(tmp_path / "d"), skip_broken=True, progress=listening)
    assert len(data.split("train")) + len(data.split("select")) == 19
    for path in paths:
        path.write_bytes(b"no image")
    with pytest.raises(BadInput, match="none of the 20"):
        open_data(str(tmp_path / "d"), skip_broken=True).split("train")
