"""Every form of --data opens, and each kind of bad input gets its one line."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploykit.base.errors import BadInput
from deploykit.data import DataSource, open_data
from tests.listening import Listening


def refused(name: object, **options) -> str:
    with pytest.raises(BadInput) as error:
        open_data(str(name), **options).split("test").image(0)
    line = error.value.line()
    assert "\n" not in line
    return line


def read_all(data: DataSource) -> int:
    """Decode every picture of every split."""
    splits = [data.split(name) for name in ("train", "select", "test")]
    return sum(len(y) for split in splits for _, y in split.batches(4, data.preprocessing((16, 16))))


def write_pictures(folder: Path, count: int, seed: int, size: tuple[int, int] = (8, 8)) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{i}.png")


def sorted_folder(root: Path, splits: dict[str, int]) -> Path:
    for number, (split, count) in enumerate(splits.items()):
        for label, name in enumerate(("cat", "dog")):
            write_pictures(root / split / name, count, seed=100 * number + label)
    return root


# Names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("digit", "unknown data 'digit': no such folder or name"),
        ("digit", "Did you mean 'digits'?"),
        ("cifar:x", "Did you mean 'cifar10:x'?"),
        ("cifar10:/nowhere", "the folder /nowhere does not exist"),
        ("imagenet:", "the folder (none) does not exist"),
        ("/nowhere/at/all", "the data folder /nowhere/at/all does not exist"),
        ("nowhere.csv", "nowhere.csv does not exist"),
        ("nowhere.npz", "nowhere.npz does not exist"),
        ("synthetic", "no seed; got ''; expected synthetic:SEED"),
        ("synthetic:x", "no seed; got 'x'"),
        ("synthetic:1,tran=4", "unknown key of synthetic 'tran'; expected one of train, test, size. Did you mean 'train'?"),
        ("synthetic:1,size=4", "size; got '4'; expected a whole number, 8…1024"),
        ("synthetic:1,test=0", "test; got '0'"),
    ],
)  # fmt: skip
def test_names(name: str, text: str) -> None:
    assert text in refused(name)


# Folders


def test_plain_folder_is_split_by_hash(image_folder: Path, listening: Listening) -> None:
    data = open_data(str(image_folder), progress=listening)
    assert data.classes == ("one", "three", "two", "zero")
    sizes = [len(data.split(name)) for name in ("train", "select", "test")]
    assert sum(sizes) == 40
    assert min(sizes) >= 1
    assert "a fifth of the pictures, chosen by their hash, is the test split" in listening.said[0]
    test = data.split("test")
    assert Path(test.file_name(0) or "").parent.name == data.classes[test.labels[0]]


def test_adding_pictures_moves_none_between_splits(image_folder: Path) -> None:
    def test_files() -> set[str | None]:
        test = open_data(str(image_folder)).split("test")
        return {test.file_name(i) for i in range(len(test))}

    before = test_files()
    write_pictures(image_folder / "four", 20, seed=9)
    assert {one for one in test_files() if "/four/" not in str(one)} == before


def test_train_and_val(tmp_path: Path) -> None:
    data = open_data(str(sorted_folder(tmp_path / "d", {"train": 20, "val": 5})))
    assert len(data.split("test")) == 10
    assert len(data.split("train")) + len(data.split("select")) == 40


def test_train_val_and_test(tmp_path: Path, listening: Listening) -> None:
    data = open_data(str(sorted_folder(tmp_path / "d", {"train": 6, "val": 3, "test": 5})), progress=listening)
    assert [len(data.split(name)) for name in ("train", "select", "test")] == [12, 6, 10]
    assert listening.said == [f"{data.name}: train from train/, select from val/, test from test/"]


def test_folder_errors(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no images; expected files .jpg" in refused(empty)
    write_pictures(tmp_path / "single" / "cat", 3, seed=0)
    (tmp_path / "single" / "dog").mkdir()
    assert "dog holds no pictures; expected files .jpg" in refused(tmp_path / "single")
    for one in ("a", "b"):
        (tmp_path / "bare" / one).mkdir(parents=True)
    with pytest.raises(BadInput, match=r"bare holds no pictures; expected files \.jpg"):
        open_data(str(tmp_path / "bare"))
    root = sorted_folder(tmp_path / "d", {"train": 4, "val": 2})
    write_pictures(root / "val" / "cow", 1, seed=5)
    assert "val/cow is a class that" in refused(root)


def test_a_broken_picture_is_named_or_left_out(image_folder: Path, listening: Listening) -> None:
    root = image_folder
    bad = root / "one" / "03.png"
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(BadInput, match=r"one/03\.png is (a broken|no) picture.*--skip-broken"):
        read_all(open_data(str(root)))
    data = open_data(str(root), skip_broken=True, progress=listening)
    assert sum(len(data.split(name)) for name in ("train", "select", "test")) == 39
    assert len(listening.warned) == 1
    assert "left out 1 of 40 pictures" in listening.warned[0]
    assert "03.png" in listening.warned[0]


def test_pictures_of_many_kinds_in_one_folder(tmp_path: Path) -> None:
    root = tmp_path / "kinds"
    (root / "a").mkdir(parents=True)
    write_pictures(root / "b", 6, seed=1, size=(20, 30))
    base = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8))
    for mode in ("L", "RGBA", "P", "1", "CMYK"):
        base.convert(mode).save(root / "a" / f"{mode}.tif")
    Image.fromarray(np.full((9, 5), 40_000, np.uint16)).save(root / "a" / "deep.png")
    base.resize((1, 1)).save(root / "a" / "pixel.png")
    data = open_data(str(root))
    assert data.natural_size is None
    assert read_all(data) == 13


def test_imagenet(tmp_path: Path) -> None:
    root = sorted_folder(tmp_path / "i", {"train": 12, "val": 3})
    data = open_data(f"imagenet:{root}")
    assert len(data.split("test")) == 6
    assert data.preprocessing().resize == 256
    evaluation_only = sorted_folder(tmp_path / "v", {"val": 3})
    assert len(open_data(f"imagenet:{evaluation_only}").split("test")) == 6
    write_pictures(tmp_path / "flat" / "val", 3, seed=0)
    line = refused(f"imagenet:{tmp_path / 'flat'}")
    assert "are not sorted into class folders" in line
    assert "Sort them once" in line
    assert "val does not exist" in refused(f"imagenet:{tmp_path}")


# CSV


def test_csv(tmp_path: Path, image_folder: Path) -> None:
    table = tmp_path / "t.csv"
    outside = image_folder / "two" / "00.png"
    lines = ["label,path,split"]
    lines += [f"{name},pictures/{name}/0{i}.png,train" for name in ("one", "zero") for i in range(6)]
    lines += [f"{name},pictures/{name}/0{i}.png,val" for name in ("one", "zero") for i in range(7, 9)]
    lines += [f"one,{outside},train", ""]
    table.write_text("\n".join(lines))
    data = open_data(str(table))
    assert data.classes == ("one", "zero")
    assert data.natural_size == (32, 32)
    assert len(data.split("test")) == 4
    assert len(data.split("train")) + len(data.split("select")) == 13
    assert data.split("test").labels.tolist() == [0, 0, 1, 1]


def test_csv_labels_that_are_numbers_are_ordered_by_value(tmp_path: Path, image_folder: Path) -> None:
    names = ("one", "two", "three")
    rows = [f"pictures/{name}/0{i}.png,{n}" for n, name in zip((2, 10, 9), names, strict=True) for i in range(9)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *rows]))
    assert open_data(str(tmp_path / "t.csv")).classes == ("2", "9", "10")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "lacks a column; got an empty file; expected a first line path,label"),
        ("file,label\na,b", "lacks a column; got file, label"),
        ("path,label\n", "holds no pictures"),
        ("path,label\nx.png,a\ny.png,nan", "line 3: no label; got 'nan'"),
        ("path,label\nx.png,", "line 2: no label; got ''"),
        ("path,label\nx.png", "line 2; got 1 values; expected 2"),
        ("path,label\n,a", "line 2: no path"),
        ("path,label\n../x.png,a", "line 2: ../x.png lies outside the folder of t.csv"),
        ("path,label\nx.png,a\ny.png,b", "2 of 2 pictures do not exist: "),
        ("path,label,split\npictures/one/00.png,a,trian", "line 2: unknown split; got 'trian'"),
        ("path,label\npictures/one/00.png,a\npictures/one/01.png,a", "holds one class only; got a"),
        (
            "path,label,split\npictures/one/00.png,a,train\npictures/one/01.png,b,train\npictures/one/02.png,c,test",
            "line 4: the label 'c' is in the test split only",
        ),
    ],
)
def test_csv_errors(tmp_path: Path, image_folder: Path, content: str, text: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    assert text in refused(tmp_path / "t.csv")


def test_csv_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"path,label\n\xff\xfe\x00")
    assert "is no CSV file in UTF-8" in refused(tmp_path / "t.csv")


# npz


def arrays(n: int = 60) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"images": rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8), "labels": np.arange(n) % 3}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, save) -> None:
    path = tmp_path / "d.npz"
    content = arrays()
    save(path, **content, classes=["a", "b", "c"], split=["train"] * 45 + ["test"] * 15)
    data = open_data(str(path))
    assert data.classes == ("a", "b", "c")
    test = data.split("test")
    np.testing.assert_array_equal(test.image(3), content["images"][48])
    x, y = next(test.batches(15, data.preprocessing()))
    assert x.shape == (15, 3, 8, 8)
    np.testing.assert_array_equal(y, content["labels"][45:])


def test_uncompressed_npz_is_mapped_not_read(tmp_path: Path) -> None:
    from deploykit.data.formats.npz import _mapped

    np.savez(tmp_path / "a.npz", **arrays())
    np.savez_compressed(tmp_path / "b.npz", **arrays())
    mapped = _mapped(tmp_path / "a.npz", "images.npy")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, arrays()["images"])
    assert _mapped(tmp_path / "b.npz", "images.npy") is None


def test_npz_without_split_or_classes_and_with_text_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=arrays()["images"], labels=np.array(["x", "y"] * 30))
    data = open_data(str(tmp_path / "d.npz"))
    assert data.classes == ("x", "y")
    assert sum(len(data.split(name)) for name in ("train", "select", "test")) == 60


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"labels": None}, "lacks 'labels'; got images; expected images and labels"),
        ({"images": np.zeros((60, 8, 8, 3))}, "images; got float64 [60, 8, 8, 3]; expected uint8 [n, H, W, C]"),
        ({"images": np.zeros((60, 3, 8, 8), np.uint8)}, "images; got uint8 [60, 3, 8, 8]"),
        ({"images": np.zeros((0, 8, 8, 3), np.uint8), "labels": np.zeros(0, np.int64)}, "holds no pictures"),
        ({"labels": np.zeros(59, np.int64)}, "labels; got [59]; expected [60], one for each picture"),
        ({"labels": np.zeros(60)}, "labels; got float64; expected whole numbers or text"),
        ({"labels": np.zeros(60, np.int64)}, "holds one class only"),
        ({"labels": np.full(60, -1)}, "label of picture 0; got -1; expected 0 or more. Leave out"),
        ({"classes": np.array(["a", "b"])}, "label of picture 2; got 2; expected 0…1"),
        ({"classes": np.array(["a", "b", "a"])}, "classes hold a name twice"),
        ({"labels": np.array(["a", "b", "z"] * 20), "classes": np.array(["a", "b"])}, "unknown label of picture 2; got 'z'"),
        ({"split": np.array(["train"] * 3)}, "split; got <U5 [3]; expected text [60]"),
        ({"split": np.array(["what"] * 60)}, "picture 0: unknown split; got 'what'"),
        ({"labels": np.array([{}] * 60, dtype=object)}, "cannot be read: it holds pickled objects. Save plain arrays"),
        ({"images": np.array([{}] * 60, dtype=object)}, "cannot be read: it holds pickled objects. Save plain arrays"),
    ],
)  # fmt: skip
def test_npz_errors(tmp_path: Path, changes: dict, text: str) -> None:
    content = {key: value for key, value in {**arrays(), **changes}.items() if value is not None}
    np.savez(tmp_path / "d.npz", **content)
    assert text in refused(tmp_path / "d.npz")


def test_npz_empty_truncated_foreign(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, **arrays())
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert f"{path} is no .npz archive, or a truncated one" in refused(path)
    np.save(tmp_path / "one.npy", arrays()["images"])
    path.write_bytes((tmp_path / "one.npy").read_bytes())
    assert "is no .npz archive" in refused(path)


# CIFAR


def cifar_rows(n: int, labels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 3072), dtype=np.uint8), rng.integers(0, labels, n)


def binary_cifar10(root: Path) -> Path:
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for seed, name in enumerate([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]):
        pixels, labels = cifar_rows(12, 10, seed)
        (folder / name).write_bytes(np.concatenate([labels[:, None].astype(np.uint8), pixels], axis=1).tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(f"name {i}" for i in range(10)) + "\n\n")
    return root


def pickled_cifar10(root: Path, data: object = None) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for seed, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        pixels, labels = cifar_rows(12, 10, seed)
        batch = {b"data": pixels if data is None else data, b"labels": labels.tolist(), b"batch_label": b"x"}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    (folder / "batches.meta").write_bytes(
        pickle.dumps({b"label_names": [b"name %d" % i for i in range(10)]}, protocol=2)
    )
    return root


def test_cifar10_binary_and_pickled_agree(tmp_path: Path) -> None:
    one = open_data(f"cifar10:{binary_cifar10(tmp_path / 'b')}")
    two = open_data(f"cifar10:{pickled_cifar10(tmp_path / 'p')}")
    assert one.classes == two.classes == tuple(f"name {i}" for i in range(10))
    for name in ("train", "select", "test"):
        assert one.split(name).sha256 == two.split(name).sha256
    pixels, labels = cifar_rows(12, 10, seed=5)
    test = one.split("test")
    np.testing.assert_array_equal(test.image(3), pixels[3].reshape(3, 32, 32).transpose(1, 2, 0))
    np.testing.assert_array_equal(test.labels, labels)
    assert open_data(f"cifar10:{tmp_path / 'b' / 'cifar-10-batches-bin'}").classes == one.classes


def test_cifar100_takes_the_fine_label(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    for seed, name in enumerate(("train.bin", "test.bin")):
        pixels, labels = cifar_rows(20, 100, seed)
        rows = np.concatenate([np.full((20, 1), 7, np.uint8), labels[:, None].astype(np.uint8), pixels], axis=1)
        (folder / name).write_bytes(rows.tobytes())
    data = open_data(f"cifar100:{tmp_path}")
    np.testing.assert_array_equal(data.split("test").labels, cifar_rows(20, 100, 1)[1])
    assert len(data.classes) == 100


class Harm:
    def __reduce__(self):
        return (exec, ("from pathlib import Path; Path('harm').touch()",))


def test_a_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = pickled_cifar10(tmp_path / "p", data=Harm())
    line = refused(f"cifar10:{root}")
    assert "cannot be read safely: it holds" in line
    assert "exec" in line
    assert not (tmp_path / "harm").exists()


def test_cifar_errors(tmp_path: Path) -> None:
    assert "no cifar10 in" in refused(f"cifar10:{tmp_path}")
    root = binary_cifar10(tmp_path / "b")
    test = root / "cifar-10-batches-bin" / "test_batch.bin"
    test.write_bytes(test.read_bytes()[:-5])
    assert "is truncated or foreign; got 36871 bytes; expected a multiple of 3073" in refused(f"cifar10:{root}")
    wrong = pickled_cifar10(tmp_path / "p", data=np.zeros((12, 5), np.uint8))
    assert "is no CIFAR batch" in refused(f"cifar10:{wrong}")


# module:function

CODE = """
import numpy as np
from PIL import Image

class Set(list):
    pass

def rng(split):
    return np.random.default_rng({"train": 0, "test": 1}[split])

def arrays(split):
    return Set(zip(rng(split).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8), [i % 3 for i in range(40)]))

def pil(split):
    return Set((Image.fromarray(x), y) for x, y in arrays(split))

def tensors(split):
    import torch
    data = Set((torch.from_numpy(x).permute(2, 0, 1) / 255, torch.tensor(y)) for x, y in arrays(split))
    data.classes = ["a", "b", "c"]
    return data

def normalised(split):
    import torch
    return Set((torch.full((3, 8, 8), -1.5), y) for x, y in arrays(split))

def numbers(split):
    return 7

def triples(split):
    return Set((1, 2, 3) for _ in range(4))

def several(split):
    return Set((x, np.array([1, 0])) for x, y in arrays(split))

def words(split):
    return Set(("picture", y) for x, y in arrays(split))

def empty(split):
    return Set()

def fails(split):
    raise RuntimeError("no disk")

constant = 3
"""


@pytest.fixture
def user_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "user_sets.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "user_sets", raising=False)
    return "user_sets"


@pytest.mark.parametrize("kind", ["arrays", "pil", "tensors"])
def test_code(user_code: str, kind: str) -> None:
    data = open_data(f"{user_code}:{kind}", allow_code=True)
    assert data.classes == (("a", "b", "c") if kind == "tensors" else ("0", "1", "2"))
    test = data.split("test")
    expected = np.random.default_rng(1).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(test.image(5), expected[5])
    assert test.labels.tolist() == [i % 3 for i in range(40)]
    assert len(data.split("train")) + len(data.split("select")) == 40


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("normalised", "image; got floats outside [0, 1]; expected [0, 1], not normalised"),
        ("numbers", "numbers('test'); got int; expected a torch Dataset of (image, label)"),
        ("triples", "got tuple of 3; expected (image, label)"),
        ("several", "label; got ndarray; expected one whole number"),
        ("words", "image; got str; expected a Pillow image"),
        ("empty", "empty('test') is empty"),
        ("fails", "fails('test') failed: RuntimeError: no disk"),
        ("constant", "has no function 'constant'"),
        ("absent", "has no function 'absent'"),
    ],
)
def test_code_errors(user_code: str, kind: str, text: str) -> None:
    assert text in refused(f"{user_code}:{kind}", allow_code=True)


def test_code_runs_only_when_allowed(user_code: str) -> None:
    assert "would run code" in refused(f"{user_code}:arrays")
    assert user_code not in sys.modules
    assert "cannot import no_such_module" in refused("no_such_module:f", allow_code=True)


# synthetic


def test_synthetic() -> None:
    data = open_data("synthetic:5,train=300,test=90,size=16")
    assert len(data.classes) == 18
    test = data.split("test")
    assert len(test) == 90
    assert len(data.split("train")) + len(data.split("select")) == 300
    whole = np.stack([test.image(i) for i in range(90)])
    assert whole.shape == (90, 16, 16, 3)
    x, _ = next(open_data("synthetic:5,test=2000,size=16").split("test").batches(90, data.preprocessing()))
    np.testing.assert_array_equal(x, (whole.transpose(0, 3, 1, 2) / np.float32(255) - 0.5) / 0.5)
    other = open_data("synthetic:6,test=90,size=16").split("test")
    assert not np.array_equal(other.image(0), whole[0])


def test_synthetic_defaults_and_balance() -> None:
    data = open_data("synthetic:0")
    test = data.split("test")
    assert len(test) == 20_000
    assert len(data.split("train")) + len(data.split("select")) == 16_000
    counts = np.bincount(test.labels, minlength=18)
    assert counts.min() > 950
    assert counts.max() < 1280


def test_synthetic_classes_can_be_told_apart() -> None:
    """Shape areas differ as they should: the mean distance from the ground is larger for discs than for crosses."""
    from deploykit.data.formats import synthetic as shapes

    key = np.arange(1, 200, dtype=np.uint64)
    ground = shapes.draw_shapes(key, np.full(len(key), 3 * shapes.SHAPES.index("cross")), 32).astype(int)
    disc = shapes.draw_shapes(key, np.full(len(key), 3 * shapes.SHAPES.index("disc")), 32).astype(int)
    striped = shapes.draw_shapes(key, np.full(len(key), 3 * shapes.SHAPES.index("disc") + 1), 32).astype(int)
    assert (np.abs(disc - ground).max(axis=(1, 2, 3)) > 20).mean() > 0.95
    assert (np.abs(disc - striped).max(axis=(1, 2, 3)) > 20).mean() > 0.95
    assert np.abs(disc - striped).mean() < np.abs(disc - 128).mean()
