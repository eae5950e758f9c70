from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deploykit.base.errors import BadInput
from deploykit.evaluation.parity import ParityMeter, compare
from deploykit.evaluation.snr import BUDGETS, Sums, allowed_disagreements

FLOATS = st.floats(-1e3, 1e3, width=32)


def logits(n: int = 32, classes: int = 10, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, classes)).astype(np.float32)


def noisy(reference: np.ndarray, snr_db: float, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=reference.shape)
    noise *= np.linalg.norm(reference) / np.linalg.norm(noise) * 10 ** (-snr_db / 20)
    return reference + noise


@given(arrays(np.float32, (4, 5), elements=FLOATS), arrays(np.float32, (4, 5), elements=FLOATS))
def test_snr_cosine_and_errors_follow_their_definitions(r: np.ndarray, c: np.ndarray) -> None:
    sums = Sums()
    for half in (slice(0, 1), slice(1, 4)):  # in pieces, as batches come
        sums.add(r[half], c[half])
    wide_r, wide_c = r.astype(np.float64).ravel(), c.astype(np.float64).ravel()
    noise, signal = np.sum((wide_c - wide_r) ** 2), np.sum(wide_r**2)
    assert sums.max_abs == np.abs(wide_c - wide_r).max()
    assert sums.abs_sum == pytest.approx(np.abs(wide_c - wide_r).sum())
    if noise == 0 or signal == 0:
        assert sums.snr_db is None
    else:
        assert sums.snr_db == pytest.approx(10 * np.log10(signal / noise), abs=1e-6)
    norms = np.linalg.norm(wide_r) * np.linalg.norm(wide_c)
    if norms > 1e-30:
        assert sums.cosine == pytest.approx(wide_r @ wide_c / norms, abs=1e-9)


@pytest.mark.parametrize("precision", BUDGETS)
def test_the_budget_of_each_precision_decides(precision: str) -> None:
    reference = logits(n=400)
    reference[np.arange(400), np.arange(400) % 10] += 20  # clear winners, so that only the SNR can decide
    limit = BUDGETS[precision].snr_db
    assert compare(reference, noisy(reference, limit + 1), precision).ok
    failed = compare(reference, noisy(reference, limit - 1), precision)
    assert not failed.ok
    assert f"expected at least {limit:g} dB for {precision}" in failed.reasons[0]


def test_identical_outputs_are_json_safe() -> None:
    found = compare(logits(), logits(), "fp32")
    assert found.ok
    assert found.identical
    assert found.snr_db is None
    assert found.cosine == pytest.approx(1)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["snr_db"] is None


def test_the_report_block_has_the_keys_of_the_design() -> None:
    block = compare(logits(), logits(seed=0) + 1e-6, "fp32", name="eager").to_dict()
    assert list(block) == [
        *("reference", "n", "max_abs", "mean_abs", "cosine", "snr_db", "identical", "top1_agreement", "by_batch", "ok")
    ]
    assert block["reference"] == "eager"
    assert block["by_batch"][0]["batch"] == 32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_fail_and_name_the_picture(bad: float) -> None:
    candidate = logits()
    candidate[7, 3] = bad
    found = compare(logits(), candidate, "int8")
    assert not found.ok
    assert found.nan == 1
    assert found.max_abs is None
    assert found.worst[0]["index"] == 7
    assert "1 of 320 numbers are NaN or infinite" in found.reasons[0]
    json.dumps(found.to_dict() | found.details(), allow_nan=False)


def test_a_reference_with_nan_is_named_as_the_culprit() -> None:
    broken = logits()
    broken[0, 0] = np.nan
    assert "of the reference eager" in compare(broken, logits(), "fp32", name="eager").reasons[0]


def test_an_all_zero_answer_fails() -> None:
    assert not compare(logits(), np.zeros((32, 10)), "int8").ok
    assert not compare(np.zeros((32, 10)), logits(), "int8").ok


def test_changed_classes_fail_although_the_snr_holds() -> None:
    reference = np.tile(np.array([[100.0, 99.0] + [0.0] * 8]), (40, 1))
    candidate = reference.copy()
    candidate[:10, 1] = 102  # 29 dB and another winner in ten pictures of forty
    found = compare(reference, candidate, "int8")
    assert found.snr_db is not None
    assert found.snr_db > BUDGETS["int8"].snr_db
    assert found.disagreements == 10
    assert found.top1_agreement == 0.75
    assert found.top1_low is not None
    assert found.top1_low < 0.75 < (found.top1_high or 0)
    assert "top-1 differs on 10 of 40 pictures, at most 2 allowed" in found.reasons[0]
    assert {entry["index"] for entry in found.worst} <= set(range(10))


def test_a_tie_is_no_disagreement() -> None:
    reference = np.tile(np.array([[1.0, 1.0 - 1e-7, 0.5]]), (8, 1))
    candidate = reference[:, [1, 0, 2]]
    found = compare(reference, candidate, "fp32")
    assert found.ok
    assert found.ties == 8
    assert found.top1_agreement == 0


@pytest.mark.parametrize(
    ("n", "precision", "allowed"), [(3, "fp32", 0), (32, "fp32", 1), (32, "int8", 2), (1000, "fp32", 5), (1, "int8", 0)]
)
def test_few_pictures_allow_what_the_budget_rounds_up_to(n: int, precision: str, allowed: int) -> None:
    assert allowed_disagreements(n, BUDGETS[precision]) == allowed


def test_other_shapes_are_refused() -> None:
    with pytest.raises(BadInput, match=r"another shape.*got \[32, 9\]; expected \[32, 10\] as reference has"):
        compare(logits(), logits(classes=9), "fp32")


def test_other_rows_fail_that_batch_as_hard_coded() -> None:
    meter = ParityMeter("eager", "fp32")
    meter.add([logits(2)], [logits(2)], batch=2)
    meter.add([logits(8)], [logits(2)], batch=8)
    found = meter.result()
    assert not found.ok
    assert found.by_batch[0].ok
    assert not found.by_batch[1].ok
    assert "answers 2 rows for 8 pictures: a batch size is hard-coded" in found.reasons[0]


def test_several_outputs_are_compared_one_by_one() -> None:
    meter = ParityMeter("eager", "fp32", ("out", "aux"))
    big, small = np.full((2, 3, 4, 4), 1000.0), np.full((2, 3, 4, 4), 0.01)
    meter.add([big, small], [big, small * 2], batch=2)  # lost beside the big output's signal
    found = meter.result()
    assert found.snr_db is not None
    assert found.snr_db > 80
    assert found.reasons == ("output 'aux': SNR 0.0 dB, expected at least 80 dB",)
    assert found.top1_agreement is None


def test_no_pictures_is_an_error() -> None:
    with pytest.raises(BadInput, match="no pictures to compare on"):
        ParityMeter("eager", "fp32").result()


def test_an_unknown_precision_lists_the_known() -> None:
    with pytest.raises(BadInput, match=r"unknown precision 'fp61'.*fp32, tf32"):
        compare(logits(), logits(), "fp61")
