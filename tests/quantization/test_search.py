import numpy as np
import pytest

from deploykit.quantization.search import Choice, choose_float_parts

LOGITS = np.random.default_rng(0).normal(size=(8, 10))
NOISE = np.random.default_rng(1).normal(size=(8, 10))


class AsItIs:
    """A quantizer whose network is the choice itself."""

    def make(self, choice):
        return choice


def chosen(gain_db, slower):
    """What is chosen where a float classifier brings ``gain_db`` and costs ``slower`` times the time."""

    def run(choice):
        return LOGITS + NOISE * 10 ** (-(20 + gain_db * choice.float_head) / 20)

    def times(choices):
        return {name: slower if choice.float_head else 1.001 for name, choice in choices.items()} | {
            "int8 sums and classifier": 1.0
        }

    return choose_float_parts(AsItIs(), Choice(), LOGITS, run, times)


@pytest.mark.parametrize(("gain_db", "slower", "kept"), [(3, 1.02, True), (3, 1.1, False), (0.1, 1.02, False)])
def test_a_part_stays_float_where_it_gains_much_and_costs_little(gain_db, slower, kept):
    found = chosen(gain_db, slower)
    assert found.float_head is kept
    assert not found.float_adds
