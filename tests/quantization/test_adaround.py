import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit.quantization.adaround import Moments, choose
from deploykit.quantization.schemes import resized

LIMIT = {4: 7, 3: 3, 8: 127}


def layer(seed, outputs=3, size=8, groups=1, correlated=0.9):
    """Weights, scales and the moments of inputs that go together, as pictures' patches do."""
    random = np.random.default_rng(seed)
    weight = random.normal(size=(groups, outputs, size))
    base = random.normal(size=(groups, 400, 1)) * correlated + 0.3
    x = base + random.normal(size=(groups, 400, size)) * (1 - correlated)
    moments = Moments(x.transpose(0, 2, 1) @ x, np.zeros((groups, outputs, size)), 400)
    return weight, x, moments


def scale_of(weight, bits):
    return np.abs(weight).max(axis=-1, keepdims=True) / LIMIT[bits]


def error(weight, scale, integers, x):
    return ((x @ (integers * scale - weight).transpose(0, 2, 1)) ** 2).sum(axis=1)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([3, 4, 8]), st.sampled_from([1, 3]), st.floats(0, 0.95))
def test_no_channel_is_worse_than_nearest_and_each_weight_is_next_to_its_own(seed, bits, groups, correlated):
    weight, x, moments = layer(seed, groups=groups, correlated=correlated)
    scale = scale_of(weight, bits)
    chosen = choose(weight, scale, moments, bits)
    nearest = np.rint(weight / scale)
    slack = 1e-9 + 1e-9 * error(weight, scale, nearest, x)
    assert (error(weight, scale, chosen, x) <= error(weight, scale, nearest, x) + slack).all()
    assert np.abs(chosen - weight / scale).max() < 1 + 1e-9
    assert np.abs(chosen).max() <= LIMIT[bits]


def test_close_to_the_best_of_all_roundings():
    totals = np.zeros(3)
    for seed in range(8):
        weight, x, moments = layer(seed, outputs=2)
        scale = scale_of(weight, 4)
        floor = np.floor(weight / scale)
        ways = np.asarray(list(itertools.product((0, 1), repeat=weight.shape[-1])))
        ours = error(weight, scale, choose(weight, scale, moments, 4), x)[0]
        nearest = error(weight, scale, np.rint(weight / scale), x)[0]
        for channel in range(2):
            tried = np.clip(floor[0, channel] + ways, -7, 7) * scale[0, channel] - weight[0, channel]
            totals += ((x[0] @ tried.T) ** 2).sum(axis=0).min(), ours[channel], nearest[channel]
    best, found, nearest = totals
    assert found <= best + 0.1 * (nearest - best)


def test_what_is_missing_already_is_made_up_for():
    weight, x, moments = layer(1, correlated=0.5)
    lost = weight * 0.04  # the inputs are 4 % too small: the answer would need larger weights
    moments.missing = lost @ moments.inputs
    scale = scale_of(weight, 8)
    wanted = x @ (weight + lost).transpose(0, 2, 1)

    def off(integers):
        return ((x @ (integers * scale).transpose(0, 2, 1) - wanted) ** 2).sum()

    assert off(choose(weight, scale, moments)) < off(np.rint(weight / scale))


def test_the_same_every_time():
    weight, _, moments = layer(5, outputs=8, size=18)
    first, second = (choose(weight, scale_of(weight, 4), moments, 4) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_resized_cuts_and_fills():
    array = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(resized(array, (3, 2)), [[0, 1], [3, 4], [0, 0]])
