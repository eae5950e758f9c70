from __future__ import annotations

import itertools
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit.reporting.charts.latency import _numbers, density, latency_chart
from deploykit.reporting.charts.pareto import pareto_chart, points_of
from deploykit.reporting.charts.svg import (
    Scale,
    element,
    latency_scale,
    linear_ticks,
    log_ticks,
    overlaps,
    place,
    ratio_scale,
    shortened,
)
from deploykit.reporting.read import validate
from tests.reporting import sample

TIMES = st.floats(1e-4, 1e5)


@given(st.lists(TIMES, min_size=1, max_size=20))
def test_a_time_axis_holds_its_values_and_has_ticks(values: list[float]) -> None:
    scale = latency_scale(values, 60, 900)
    assert all(60 <= scale(value) <= 900 for value in values)
    assert scale.low <= min(values) <= max(values) <= scale.high
    ticks = scale.ticks(8)
    assert 1 <= len(ticks) <= 18
    assert all(scale.low - 1e-9 <= tick <= scale.high * (1 + 1e-9) for tick in ticks)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_an_accuracy_axis_stays_in_the_unit_interval(values: list[float]) -> None:
    scale = ratio_scale(values, 400, 14)
    assert 0 <= scale.low < scale.high <= 1
    assert all(14 <= scale(value) <= 400 for value in values)
    assert len(scale.ticks(5)) >= 2


def test_ticks_are_round() -> None:
    assert linear_ticks(0.1, 0.93, 5) == [0.2, 0.4, 0.6, 0.8]
    assert log_ticks(0.2, 30, 8) == [0.2, 0.5, 1, 2, 5, 10, 20]
    assert Scale(1, 100, 0, 100, log=True)(10) == pytest.approx(50)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(60, 900), st.floats(20, 380)), min_size=1, max_size=15))
def test_labels_stand_free(points: list[tuple[float, float]]) -> None:
    widths, bounds = [80.0] * len(points), (50.0, 10.0, 950.0, 400.0)
    spots = place(points, widths, 16, bounds)
    boxes = [(x, y - 8, x + 80, y + 8) for x, y in filter(None, spots)]
    assert not any(overlaps(a, b) for a, b in itertools.combinations(boxes, 2))
    assert all(box[0] >= 50 and box[2] <= 950 and box[1] >= 10 and box[3] <= 400 for box in boxes)
    assert spots[0] is not None or any(
        overlaps((points[0][0] - 120, 0, points[0][0] + 120, 400), (x, y, x, y)) for x, y in points
    )


def numbers(text: str) -> list[float]:
    return [float(value) for value in re.findall(r'(?:x|y|cx|cy|x1|x2|y1|y2)="([-\d.]+)"', text)]


@pytest.mark.parametrize(("width", "style"), [(1040, "wide"), (388, "narrow")])
@pytest.mark.parametrize("count", [1, 6, 15])
def test_the_pareto_plot_is_sound(count: int, width: float, style: str) -> None:
    made = validate(sample.report(count))
    drawn = pareto_chart(made, width, 430, style)
    root = ElementTree.fromstring(str(drawn))
    groups = list(root.iter("{http://www.w3.org/2000/svg}g"))
    assert len(groups) == count
    assert all(-1 <= value <= 1041 for value in numbers(str(drawn)))
    kinds = [one.get("class", "") for one in groups]
    assert kinds.count("point pick") == 1
    lines = root.findall(".//*[@class='front-line']")
    assert len(lines) == (1 if len(made.pareto) > 1 else 0)


def test_points_carry_both_intervals() -> None:
    point = points_of(validate(sample.report(6)))[0]
    assert (point.name, point.kind) == ("int8", "pick")
    assert point.x[0] < point.x[1] < point.x[2]
    assert point.y[0] < point.y[1] < point.y[2]


def test_an_accuracy_of_zero_is_drawn() -> None:
    made = sample.report(1)
    made["variants"][0]["accuracy"] |= {"top1": 0.0, "top1_low": 0.0, "top1_high": 0.008}
    made["variants"][0]["quality"] = None
    assert points_of(validate(made))[0].y == (0.0, 0.0, 0.008)
    assert pareto_chart(validate(made), 1040, 430, "wide") is not None


@given(st.floats(0.01, 100), st.floats(0.001, 0.5))
def test_a_density_peaks_where_the_samples_are(middle: float, spread: float) -> None:
    samples = middle * np.exp(np.random.default_rng(0).normal(0, spread, 800))
    across = latency_scale([float(samples.min()), float(samples.max())], 0, 219)
    shape = density(samples, across)
    assert shape.shape == (220,)
    assert shape.max() == pytest.approx(1)
    assert abs(int(shape.argmax()) - across(float(np.median(samples)))) < 50


def test_equal_samples_are_a_spike() -> None:
    shape = density(np.full(100, 2.0), Scale(1.0, 3.0, 0, 219))
    assert np.flatnonzero(shape > 0.5).size <= 3
    assert math.isfinite(float(shape.sum()))


def test_distributions_are_drawn_fastest_first() -> None:
    made = validate(sample.report(6))
    generator = np.random.default_rng(0)
    samples = {v.name: generator.normal(v.measurements[0].p50_ms, 0.01, 500) for v in made.variants}
    drawn = str(latency_chart(made, samples, 1040, "wide"))
    ElementTree.fromstring(drawn)
    assert drawn.index(">pruned50-int8<") < drawn.index(">int8<") < drawn.index(">eager<")
    assert latency_chart(made, {}, 1040, "wide") is None


def test_svg_text_is_escaped_and_cut() -> None:
    assert element("text", "<b>&", x=1.25) == '<text x="1.2">&lt;b&gt;&amp;</text>'
    assert element("rect", class_='a"b') == '<rect class="a&#34;b"/>'
    assert shortened("a" * 100, 10, 100) == "a" * 16 + "…"


def test_the_chart_states_the_percentiles_of_the_table() -> None:
    samples = np.arange(1.0, 101.0)
    assert _numbers(samples) == "p50 50.0 · p99 99.0 ms"
