from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploykit.base.errors import AnswerNo, BadInput
from deploykit.evaluation.logits import SavedLogits, check_logits, load_logits, looks_multi_label, save_logits

SAVED = SavedLogits(
    np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), np.arange(6) % 3, "ab" * 32, ("a", "ß", "<b>")
)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    save_logits(tmp_path / "a.npz", SAVED)
    back = load_logits(tmp_path / "a.npz")
    assert np.array_equal(back.logits, SAVED.logits)
    assert np.array_equal(back.labels, SAVED.labels)
    assert (back.data_sha256, back.classes) == (SAVED.data_sha256, SAVED.classes)


def test_equal_logits_make_equal_files(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        save_logits(tmp_path / name, SAVED)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_files_without_class_names_are_read(tmp_path: Path) -> None:
    save_logits(tmp_path / "a.npz", SavedLogits(SAVED.logits, SAVED.labels, "x"))
    assert load_logits(tmp_path / "a.npz").classes == ()


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("ran",))

    fields = {"logits": np.array([Evil()], dtype=object), "labels": SAVED.labels, "data_sha256": "x", "classes": []}
    np.savez(tmp_path / "evil.npz", **fields)
    with pytest.raises(BadInput, match="holds no logits we can read"):
        load_logits(tmp_path / "evil.npz")


def test_foreign_and_broken_files_are_one_line(tmp_path: Path) -> None:
    save_logits(tmp_path / "good.npz", SAVED)
    whole = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "short.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    np.save(tmp_path / "plain.npy", np.zeros(3))
    for name in ("short.npz", "empty.npz", "text.npz", "other.npz", "plain.npy"):
        with pytest.raises(BadInput, match="holds no logits"):
            load_logits(tmp_path / name)
    with pytest.raises(BadInput, match="does not exist"):
        load_logits(tmp_path / "missing.npz")


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    save_logits(tmp_path / "a.npz", SavedLogits(SAVED.logits, SAVED.labels[:4], "x"))
    with pytest.raises(BadInput, match=r"do not fit together; got float32 \(6, 3\) and int64 \(4,\)"):
        load_logits(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 3)), [], "no images to evaluate on"),
        (np.zeros((2, 3, 4)), [0, 1], "no classifier with one label per image"),
        (np.array([[1.0], [-2]]), [0, 1], r"one-logit \(binary\) model"),
        (np.array([[1.0, -2], [3, 1]]), [0, 2], r"labels do not fit the head; got labels 0…2 and 2 outputs"),
        (np.array([[0.9, 0.8], [0.1, 0.05]]), [0, 1], r"looks like a multi-label model \(sigmoid"),
    ],
)
def test_models_that_cannot_be_judged_are_named(logits: np.ndarray, labels: list[int], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_logits(logits.astype(np.float32), np.array(labels, dtype=np.int64), "net")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_a_failed_answer(value: float) -> None:
    logits = SAVED.logits.copy()
    logits[4, 1] = value
    with pytest.raises(AnswerNo, match="NaN or infinite logits for 1 of 6 images, the first is image 4"):
        check_logits(logits, SAVED.labels, "net")


def test_softmax_and_constant_outputs_are_not_multi_label() -> None:
    shares = np.exp(SAVED.logits) / np.exp(SAVED.logits).sum(axis=1, keepdims=True)
    assert not looks_multi_label(shares)
    assert not looks_multi_label(np.zeros((5, 3), dtype=np.float32))
    assert looks_multi_label(1 / (1 + np.exp(-SAVED.logits)))
