import numpy as np
import pytest

from deploykit.engines.batching import filled, in_whole_batches


def doubled(x):
    assert len(x) == 4
    return {"double": 2 * x, "pairs": np.repeat(x, 2, axis=0), "sum": np.float32(3)}


@pytest.mark.parametrize("count", [1, 4, 6, 8])
def test_any_number_of_rows_goes_through_a_fixed_batch(count):
    x = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    found = in_whole_batches(doubled, 4)(x)
    np.testing.assert_array_equal(found["double"], 2 * x)
    np.testing.assert_array_equal(found["pairs"], np.repeat(x, 2, axis=0))
    assert found["sum"] == 3


def test_rows_are_filled_up_with_the_last_one():
    assert filled(np.array([[1], [2]]), 4).ravel().tolist() == [1, 2, 2, 2]
    assert filled(np.array([[1], [2]]), 2).ravel().tolist() == [1, 2]
