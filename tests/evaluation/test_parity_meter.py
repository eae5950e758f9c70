from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deploykit.base.errors import BadInput
from deploykit.evaluation.parity_meter import ParityMeter, compare
from deploykit.evaluation.snr import BUDGETS, Sums

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
        *("reference", "n", "max_abs", "mean_abs", "cosine", "snr_db", "centred_db", "identical"),
        *("top1_agreement", "by_batch", "ok"),
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


def test_changed_classes_are_counted_and_shown_first() -> None:
    reference = np.tile(np.array([[100.0, 99.0] + [0.0] * 8]), (40, 1))
    candidate = reference.copy()
    candidate[:10, 1] = 102  # 29 dB and another winner in ten images of forty
    found = compare(reference, candidate, "int8")
    assert found.snr_db is not None
    assert found.snr_db > BUDGETS["int8"].snr_db
    assert found.disagreements == 10
    assert found.top1_agreement == 0.75
    assert found.top1_low is not None
    assert found.top1_low < 0.75 < (found.top1_high or 0)
    assert found.answers is not None
    assert (found.answers.confident, found.answers.kept) == (40, 30)
    assert {entry["index"] for entry in found.worst} <= set(range(10))


def test_a_tie_is_no_disagreement() -> None:
    reference = np.tile(np.array([[1.0, 1.0 - 1e-7, 0.5]]), (8, 1))
    candidate = reference[:, [1, 0, 2]]
    found = compare(reference, candidate, "fp32")
    assert found.ok
    assert found.ties == 8
    assert found.top1_agreement == 0


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
    assert "answers 2 rows for 8 images: a batch size is hard-coded" in found.reasons[0]


def test_several_outputs_are_compared_one_by_one() -> None:
    meter = ParityMeter("eager", "fp32", ("out", "aux"))
    big, small = np.full((2, 3, 4, 4), 1000.0), np.full((2, 3, 4, 4), 0.01)
    meter.add([big, small], [big, small * 2], batch=2)  # lost beside the big output's signal
    found = meter.result()
    assert found.snr_db == pytest.approx(0)
    assert [(one["output"], one["identical"]) for one in found.groups] == [("out", True), ("aux", False)]
    assert found.reasons == ("batch 2: output 'aux': SNR 0.0 dB, expected at least 80 dB for fp32",)
    assert found.top1_agreement is None


def test_no_pictures_is_an_error() -> None:
    with pytest.raises(BadInput, match="no images to compare on"):
        ParityMeter("eager", "fp32").result()


def test_an_unknown_precision_lists_the_known() -> None:
    with pytest.raises(BadInput, match=r"unknown precision 'fp61'.*fp32, tf32"):
        compare(logits(), logits(), "fp61")


def detector(seed: int = 0, *, images: int = 8, anchors: int = 300) -> np.ndarray:
    """Boxes in pixels and mostly tiny scores, as one output ``[N, 84, anchors]``."""
    random = np.random.default_rng(seed)
    boxes = random.uniform(0, 640, size=(images, 4, anchors))
    scores = 1 / (1 + np.exp(-random.normal(-9, 1, size=(images, 80, anchors))))
    for image in range(images):
        scores[image, random.integers(80), :10] = 0.9
    return np.concatenate([boxes, scores], axis=1).astype(np.float32)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_zero_scores_fail_beside_boxes_that_hold(precision: str, turned: bool) -> None:
    reference = detector().transpose(0, 2, 1) if turned else detector()
    candidate = reference.copy()
    (candidate[:, :, 4:] if turned else candidate[:, 4:])[...] = 0
    found = compare(reference, candidate, precision)
    assert not found.ok
    assert found.snr_db == pytest.approx(0)
    whole = Sums()
    whole.add(reference, candidate)
    assert whole.snr_db is not None
    assert whole.snr_db > 60  # what one figure over all of it says


def test_boxes_and_scores_that_are_near_hold_together() -> None:
    reference = detector()
    noise = np.random.default_rng(1).normal(size=reference.shape) * 0.05
    assert compare(reference, reference * (1 + noise), "int8").ok
    assert not compare(reference, reference * (1 + 20 * noise), "int8").ok


def test_channels_of_unlike_scale_are_groups_and_faint_ones_are_only_shown() -> None:
    random = np.random.default_rng(0)
    scale = np.array([1000.0, 300.0, 20.0, 0.01])[None, :, None, None]
    reference = random.normal(size=(4, 4, 5, 5)) * scale
    candidate = reference.copy()
    candidate[:, 3] = 0
    found = compare(reference, candidate, "fp16")
    assert [(one["channels"], one["judged"]) for one in found.groups] == [("0-1", True), ("2", True), ("3", False)]
    assert found.ok
    candidate[:, 3] = 500  # what is not judged may still not become large
    assert not compare(reference, candidate, "fp16").ok
    candidate = reference.copy()
    candidate[:, 2] *= 1.1
    assert compare(reference, candidate, "fp16").reasons == (
        "batch 4: output 'output' channels 2: SNR 20.0 dB, expected at least 40 dB for fp16",
    )


def test_a_large_constant_part_does_not_hide_what_depends_on_the_image() -> None:
    reference = logits(64) + 100 * np.arange(10)
    candidate = np.broadcast_to(reference.mean(axis=0), reference.shape)
    found = compare(reference, candidate, "int8")
    assert found.snr_db is not None
    assert found.snr_db > 40
    assert found.centred_db == pytest.approx(0, abs=0.1)
    assert [one.kind for one in found.figures if one.misses(BUDGETS["int8"])] == ["centred_db"]
    assert not found.ok


def test_a_common_constant_is_no_reason_to_refuse_a_float_format() -> None:
    reference = logits(64).astype(np.float64) + 20
    assert compare(reference, reference.astype(np.float16), "fp16").ok


def test_integers_are_judged_by_how_many_are_equal() -> None:
    maps = np.random.default_rng(0).integers(0, 21, size=(2, 32, 32))
    other = maps.copy()
    other[:, 0, :16] += 1  # 1.6 %
    assert compare(maps, other, "int8").ok
    found = compare(maps, other, "fp32")
    assert [(one.kind, round(one.value or 0, 4)) for one in found.figures] == [("equal", 0.9844)]
    assert not found.ok
    assert compare(maps.astype(np.float32), maps, "fp32").ok  # eager tells them as floats


def test_empty_outputs_fail() -> None:
    assert compare(np.zeros((4, 0)), np.zeros((4, 0)), "int8").broken == ("batch 4: the outputs are empty",)


def test_several_heads_are_no_answers() -> None:
    meter = ParityMeter("eager", "int8", ("colour", "shape"))
    meter.add([logits(), logits(seed=3)], [logits(), logits(seed=3)], batch=32)
    assert meter.result().answers is None


def test_a_head_of_several_labels_is_compared_by_its_decisions() -> None:
    random = np.random.default_rng(0)
    labels = random.uniform(size=(64, 4))
    other = labels.copy()
    other[:16, 1] = 1 - other[:16, 1]
    meter = ParityMeter("eager", "int8", classes=False)
    meter.add([labels], [other], batch=8)
    found = meter.result()
    assert found.answers is None
    assert found.decisions == (240, 256)
    assert compare(labels * 2, labels * 2, "int8").decisions is None


def test_nothing_more_is_run_of_what_is_broken() -> None:
    meter = ParityMeter("eager", "int8")
    meter.add([logits()], [logits()], batch=8)
    assert not meter.broken
    meter.add([logits()], [np.full((32, 10), np.nan)], batch=8)
    assert meter.broken
