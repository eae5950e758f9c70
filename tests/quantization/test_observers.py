import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploykit.base.errors import BadInput
from deploykit.config.registries import RANGE_METHODS
from deploykit.quantization.observers import BINS, Observer
from deploykit.quantization.ranges import choose_range
from deploykit.quantization.schemes import S8, U8, affine


def seen(*batches):
    observer = Observer("x")
    for number, batch in enumerate(batches):
        observer.add(np.asarray(batch, np.float32), offset=number)
    return observer


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=200), st.integers(1, 5))
def test_extremes_are_exact_and_nothing_is_lost_when_the_range_doubles(values, parts):
    batches = [part for part in np.array_split(np.asarray(values, np.float32), parts) if part.size]
    observer = seen(*batches)
    assert observer.low == min(batch.min() for batch in batches)
    assert observer.high == max(batch.max() for batch in batches)
    assert observer.counts.sum() == len(values)
    assert observer.limit >= max(abs(observer.low), abs(observer.high))


def test_one_pass_equals_numpy_histogram():
    values = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    observer = seen(*np.array_split(values, 7))
    expected, _ = np.histogram(values, BINS, (-observer.limit, observer.limit))
    assert np.abs(np.cumsum(expected) - np.cumsum(observer.counts)).max() <= 3  # float32 at bin edges


def test_memory_does_not_grow_with_images():
    observer = seen(*[np.ones((2, 3, 64, 64)) * i for i in range(50)])
    assert observer.counts.nbytes == BINS * 8


def test_nan_is_named():
    with pytest.raises(BadInput, match="activation 'x' holds NaN"):
        seen([1.0, np.nan])


def test_state_round_trip():
    observer = seen(np.random.default_rng(1).normal(size=500))
    again = Observer.from_dict(observer.to_dict())
    assert again.to_dict() == observer.to_dict()


@pytest.mark.parametrize("method", RANGE_METHODS)
@pytest.mark.parametrize("scheme", [U8, S8])
def test_every_method_stays_within_what_was_seen(method, scheme):
    rng = np.random.default_rng(0)
    observer = seen(*[np.maximum(rng.normal(size=2000), 0) for _ in range(4)])
    low, high = choose_range(observer, method, scheme)
    assert observer.low - 1e-6 <= low <= 0 + 1e-6
    assert 1.0 < high <= observer.high + 1e-6


def test_mse_clips_an_outlier_and_has_the_least_error():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=20000), [60.0]]).astype(np.float32)
    observer = seen(values)

    def error(method):
        step = affine(*choose_range(observer, method, S8), S8)
        return float(((values - step.dequantize(step.quantize(values))) ** 2).mean())

    assert choose_range(observer, "minmax", S8)[1] == 60.0
    assert error("mse") <= min(error(m) for m in RANGE_METHODS) * 1.1
