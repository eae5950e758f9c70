from types import SimpleNamespace

import numpy as np
import pytest

from deploykit.quantization import search
from deploykit.quantization.search import (
    Choice,
    choose_float_parts,
    choose_prefix,
    choose_ranges,
    nearness_db,
    picture_snr_db,
    snr_db,
)

LOGITS = np.random.default_rng(0).normal(size=(8, 10))
NOISE = np.random.default_rng(1).normal(size=(8, 10))


class AsItIs:
    """A quantizer whose network is the choice itself."""

    def make(self, choice):
        return choice


def each(of):
    """``of`` for each of several graphs by name."""
    return lambda graphs: {name: of(graph) for name, graph in graphs.items()}


def chosen(gain_db, dearer):
    """What is chosen where a float classifier brings ``gain_db`` and costs ``dearer`` times as much."""

    def near(choice):
        return nearness_db((LOGITS,), (LOGITS + NOISE * 10 ** (-(20 + gain_db * choice.float_head) / 20),))

    def cost(choice):
        return 1000 * dearer if choice.float_head else 1000 + choice.float_adds

    return choose_float_parts(AsItIs(), Choice(), each(cost), each(near), 4)


@pytest.mark.parametrize(("gain_db", "dearer", "kept"), [(3, 1.02, True), (3, 1.1, False), (0.1, 1.02, False)])
def test_a_part_stays_float_where_it_gains_much_and_costs_little(gain_db, dearer, kept):
    found = chosen(gain_db, dearer)
    assert found.float_head is kept
    assert not found.float_adds


def test_ranges_are_chosen_for_most_pictures_not_for_the_loudest():
    logits = np.random.default_rng(2).normal(size=(64, 10))
    logits[0] *= 1000
    spread = np.random.default_rng(3).normal(size=(64, 10))

    def run(choice):
        if choice.method == "minmax":  # ranges wide enough for the loud picture: coarse steps for all others
            return logits + 0.5 * spread
        return logits + 0.01 * spread + (np.arange(64) == 0)[:, None] * 100 * spread  # the loud one is clipped

    best, snr = choose_ranges(
        AsItIs(), Choice(), ("minmax", "moving"), each(lambda one: nearness_db((logits,), (run(one),)))
    )
    assert best.method == "moving"
    assert snr["moving"] > snr["minmax"]
    assert snr_db(logits, run(Choice(method="minmax"))) > snr_db(logits, run(Choice(method="moving")))


def test_snr_of_pictures_counts_each_alike():
    x = np.array([[1.0, 0.0], [100.0, 0.0]])
    assert picture_snr_db(x, x) == 100
    assert picture_snr_db(x, x + np.array([[0.1, 0], [1, 0]])) == pytest.approx((20 + 40) / 2)
    assert picture_snr_db(np.zeros((2, 2)), np.ones((2, 2))) == -100


def prefix(monkeypatch, costs, near, most=4):
    """How many nodes stay float, of candidates with none, 2, 4 and 6, and what was looked at."""
    monkeypatch.setattr(search, "cuts", lambda graph: [frozenset("ab"), frozenset("abcd"), frozenset("abcdef")])
    monkeypatch.setattr(AsItIs, "prepared", SimpleNamespace(graph=None), raising=False)
    looked_at = []

    def near_of(one):
        looked_at.append(len(one.prefix))
        return near[len(one.prefix) // 2]

    chosen = choose_prefix(
        AsItIs(), Choice(), each(lambda one: costs[len(one.prefix) // 2]), each(near_of), most, lambda line: None
    )
    return len(chosen.prefix), looked_at


@pytest.mark.parametrize(
    ("costs", "near", "found"),
    [
        ((1000, 900, 910, 950), (9.0, 3.0, 3.1, 3.2), 2),  # cheaper by itself
        ((1000, 900, 910, 950), (9.0, 3.0, 7.0, 8.0), 4),  # as cheap, and nearer
        ((1000, 900, 910, 950), (9.0, 3.0, 3.1, 8.0), 6),  # dearer, and nearer by more than that
        ((1000, 990, 1010, 950), (9.0, 8.9, 9.4, 8.6), 6),  # one is clearly the cheapest, none much nearer
        ((1000, 990, 1010, 1025), (9.0, 3.0, 9.4, 9.3), 0),  # none is clearly cheaper or nearer
        ((1000, 990, 1010, 1015), (9.0, 3.0, 9.4, 9.6), 6),  # no dearer, and nearer
        ((780, 810, 1000, 1210), (21.7, 34.0, 35.0, 36.0), 2),  # a little dearer, and much nearer
        ((1000, 1080, 1200, 1300), (20.0, 20.3, 50.0, 50.0), 0),  # a dear stem for little; others are out of reach
        ((1000, 1080, 1200, 1300), (20.0, 22.9, 50.0, 50.0), 0),  # 8 %: less than 3 dB
        ((1000, 1080, 1200, 1300), (20.0, 23.1, 50.0, 50.0), 2),  # more than 3 dB
        ((1000, 1101, 1200, 1300), (20.0, 90.0, 90.0, 90.0), 0),  # truly slower, however near
    ],
)
def test_accuracy_goes_first_among_prefixes_that_the_prediction_cannot_tell_apart(monkeypatch, costs, near, found):
    assert prefix(monkeypatch, costs, near)[0] == found


def test_only_so_many_candidates_are_looked_at_and_the_cheap_ones_first(monkeypatch):
    costs, near = (1000, 1030, 1020, 1010), (20.0, 40.0, 30.0, 21.0)
    assert prefix(monkeypatch, costs, near) == (2, [0, 6, 4, 2])
    assert prefix(monkeypatch, costs, near, 3) == (4, [0, 6, 4])
    assert prefix(monkeypatch, costs, near, 2) == (6, [0, 6])
    assert prefix(monkeypatch, (1000, 1200, 1200, 1200), near) == (0, [])  # nothing to choose from


def test_loud_pictures_are_not_given_up_for_little():
    logits = np.random.default_rng(2).normal(size=(64, 10))
    logits[0] *= 1000
    spread = np.random.default_rng(3).normal(size=(64, 10))

    def run(choice):
        loud = (np.arange(64) == 0)[:, None] * spread
        return logits + (0.103 * spread + 5 * loud if choice.method == "minmax" else 0.1 * spread + 9 * loud)

    assert picture_snr_db(logits, run(Choice(method="moving"))) > picture_snr_db(logits, run(Choice(method="minmax")))
    best, _ = choose_ranges(
        AsItIs(), Choice(), ("moving", "minmax"), each(lambda one: nearness_db((logits,), (run(one),)))
    )
    assert best.method == "minmax"


def test_the_worst_group_of_any_output_is_what_choices_are_made_by() -> None:
    random = np.random.default_rng(0)
    boxes, scores = random.uniform(0, 640, (8, 4, 50)), random.uniform(0, 1, (8, 3, 50)) ** 4
    both = np.concatenate([boxes, scores], axis=1)
    lost = np.concatenate([boxes, scores * 0], axis=1)
    near = np.concatenate([boxes * 1.1, scores * 0.9], axis=1)
    assert nearness_db((both,), (lost,)) == pytest.approx(0)
    assert nearness_db((both,), (near,)) == pytest.approx(20)
    assert nearness_db((boxes, scores), (boxes, scores * 0)) == pytest.approx(0)
    assert nearness_db((both,), (np.full_like(both, np.nan),)) == -100
    assert nearness_db((both,), (both,)) > 100
