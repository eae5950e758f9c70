from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploykit.base.errors import BadInput
from deploykit.base.overrides import NOTHING_STATED, Stated
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.tensor_spec import TensorSpec
from deploykit.data import open_data
from deploykit.data.classes import imagenet_classes
from deploykit.engines import open_runner
from deploykit.evaluation.run_classifier import collect_logits, in_data_order, preprocessing_of
from tests.listening import Listening

PLAIN = Preprocessing((32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class ByBrightness:
    """A real little engine: the mean of each third of the picture's rows are its three logits."""

    target, precision, device, threads, classes = "ort-cpu", "fp32", "cpu", 1, None
    task, notes = "classify", ()

    def __init__(self, batch: int | str = "batch", outputs: tuple[int, ...] = (3,)) -> None:
        self.inputs = (TensorSpec("x", "float32", (batch, 3, 32, 32), "NCHW"),)
        self.outputs = (TensorSpec("boxes", "float32", (batch, *outputs)),)
        self.preprocessing: Preprocessing | None = PLAIN
        self.shape, self.sizes = outputs, []

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.sizes.append(len(x))
        if isinstance(self.inputs[0].shape[0], int):
            assert len(x) == self.inputs[0].shape[0]
        rows = np.stack([part.mean(axis=(1, 2, 3)) for part in np.array_split(x, 3, axis=2)], axis=1)
        return rows if self.shape == (3,) else np.zeros((len(x), *self.shape), dtype=np.float32)


@pytest.fixture
def split(tmp_path: Path):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    where = np.array(["train"] * 30 + ["test"] * 20)
    np.savez(tmp_path / "d.npz", images=images, labels=np.arange(50) % 3, classes=["a", "b", "c"], split=where)
    return open_data(str(tmp_path / "d.npz")).split("test")


def test_any_batch_gives_the_same_logits(split) -> None:
    whole = collect_logits(ByBrightness(), split, 64)
    assert whole.shape == (20, 3)
    assert whole.dtype == np.float32
    for batch in (1, 7):
        assert np.allclose(collect_logits(ByBrightness(), split, batch), whole, atol=1e-6)


def test_a_fixed_batch_is_filled_up(split) -> None:
    runner = ByBrightness(batch=8)
    assert np.allclose(collect_logits(runner, split, 64), collect_logits(ByBrightness(), split, 64), atol=1e-6)
    assert runner.sizes == [8, 8, 8]


def test_a_limit_is_paired_with_its_labels(split) -> None:
    found = collect_logits(ByBrightness(), split, 4, limit=6)
    assert found.shape == (6, 3)
    assert np.allclose(found, collect_logits(ByBrightness(), split, 4)[split.chosen(6)], atol=1e-6)


def test_memory_grows_with_the_logits_only(tmp_path: Path) -> None:
    import tracemalloc

    peaks = []
    for n in (50, 500):
        images = np.random.default_rng(0).integers(0, 256, (n + 6, 32, 32, 3), dtype=np.uint8)
        where = np.array(["test"] * n + ["train"] * 6)
        np.savez(
            tmp_path / f"{n}.npz", images=images, labels=np.arange(n + 6) % 3, split=where, classes=["a", "b", "c"]
        )
        split = open_data(str(tmp_path / f"{n}.npz")).split("test")
        tracemalloc.start()
        collect_logits(ByBrightness(), split, 16)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ((1,), r"net is a one-logit \(binary\) model; got outputs of shape \[N, 1\]"),
        (
            (100, 4),
            r"net is no classifier \(detection and segmentation models cannot be evaluated yet\); got outputs boxes",
        ),
        ((), "net is no classifier"),
    ],
)
def test_other_models_are_refused_by_name(split, outputs: tuple[int, ...], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        collect_logits(ByBrightness(outputs=outputs), split, 4, name="net")


def test_an_engine_without_preprocessing_needs_one(split) -> None:
    runner = ByBrightness()
    runner.preprocessing = None
    with pytest.raises(BadInput, match="carries no preprocessing"):
        collect_logits(runner, split, 4)
    assert collect_logits(runner, split, 4, preprocessing=PLAIN).shape == (20, 3)


def test_what_nothing_states_is_assumed_and_said_never_imagenets(listening: Listening) -> None:
    runner = ByBrightness()
    source = open_data("digits")
    assert preprocessing_of(runner, source.natural_size, NOTHING_STATED, "net", listening) is PLAIN
    runner.preprocessing = None
    found = preprocessing_of(runner, source.natural_size, NOTHING_STATED, "net", listening)
    assert (found.size, found.mean, found.std, found.assumed) == ((32, 32), (0, 0, 0), (1, 1, 1), True)
    assert "net does not say how its images are normalized" in listening.warned[0]
    stated = preprocessing_of(runner, source.natural_size, Stated(mean=(0.5,), std=(0.5, 0.25, 0.5)), "net", listening)
    assert (stated.mean, stated.std, stated.assumed) == ((0.5, 0.5, 0.5), (0.5, 0.25, 0.5), False)
    assert len(listening.warned) == 1


def test_the_size_is_asked_for_where_nobody_knows_it(image_folder: Path) -> None:
    runner, source = ByBrightness(), open_data(str(image_folder))
    runner.preprocessing = None
    runner.inputs = (TensorSpec("x", "float32", ("batch", 3, "h", "w"), "NCHW"),)
    if source.natural_size is None:
        with pytest.raises(BadInput, match=r"does not say how large its input is.*--size"):
            preprocessing_of(runner, source.natural_size, NOTHING_STATED, "net")
    assert preprocessing_of(runner, source.natural_size, Stated((24, 24)), "net").size == (24, 24)


def test_columns_follow_the_names_of_the_data(listening: Listening) -> None:
    logits = np.arange(6, dtype=np.float32).reshape(2, 3)
    mapped = in_data_order(logits, ("b", "c", "a"), ("a", "b", "c"), "net", listening)
    assert mapped.tolist() == [[2, 0, 1], [5, 3, 4]]
    assert "net: classes mapped by name" in listening.said[0]
    fewer = in_data_order(logits, ("b", "c", "a"), ("c", "b"), "net", listening)
    assert fewer.tolist() == [[1, 0], [4, 3]]
    assert "judged among the data's 2 classes only" in listening.warned[0]


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (
            None,
            ("a", "b"),
            "net: the labels do not fit the head; got 3 outputs without names and 2 classes in the data",
        ),
        (("a", "b"), ("a", "b"), "net: 2 class names for 3 outputs"),
        (("a", "b", "c"), ("a", "b", "z"), "classes of the model and of the data do not fit"),
    ],
)
def test_classes_that_do_not_fit_are_refused(model, data, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        in_data_order(np.zeros((2, 3), dtype=np.float32), model, data, "net")


def test_a_real_model_is_right_on_real_digits(tiny_model: Path, digits_npz: Path) -> None:
    split = open_data(str(digits_npz)).split("test")
    with open_runner(str(tiny_model), threads=1) as runner:
        logits = collect_logits(runner, split, 16)
    assert np.mean(logits.argmax(axis=1) == split.labels) > 0.8


def test_some_of_imagenets_classes_are_found_among_outputs_without_names(listening: Listening) -> None:
    ids = list(imagenet_classes())
    logits = np.arange(2000, dtype=np.float32).reshape(2, 1000)
    mapped = in_data_order(logits, None, (ids[7], ids[3]), "net", listening)
    assert mapped.tolist() == [[7, 3], [1007, 1003]]
    assert "taken to be ImageNet's classes" in listening.said[0]
    with pytest.raises(BadInput, match="the labels do not fit the head"):
        in_data_order(logits, None, ("cat", "dog"), "net", listening)
