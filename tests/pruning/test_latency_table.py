"""The latency table: a grid of widths, interpolated; every shape is measured once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from deploykit.pruning.latency_table import LatencyTable, LayerShape

CONV = LayerShape(64, 128, (3, 3), (1, 1), (1, 1), (1, 1), 1, (28, 28))
DEPTHWISE = LayerShape(96, 96, (3, 3), (1, 1), (1, 1), (1, 1), 96, (28, 28))


def linear(shapes: Sequence[LayerShape]) -> list[float]:
    """Milliseconds as if time were MACs: what bilinear interpolation gives back exactly."""
    return [shape.c_in * shape.c_out / shape.groups * 1e-3 + 0.01 for shape in shapes]


def test_interpolation_is_exact_where_time_is_bilinear() -> None:
    table = LatencyTable(linear, 16)
    assert table.prepare([CONV], varies_in=[True], varies_out=[True]) > 10
    for c_in, c_out in [(64, 128), (48, 80), (33, 71), (16, 16), (8, 100)]:
        assert table.time_ms(CONV, c_in, c_out) == pytest.approx(c_in * c_out * 1e-3 + 0.01)


def test_a_depthwise_layer_has_one_width() -> None:
    table = LatencyTable(linear, 8)
    measured = table.prepare([DEPTHWISE], varies_in=[True], varies_out=[True])
    assert measured <= 6
    assert table.time_ms(DEPTHWISE, 40, 40) == pytest.approx(0.04 + 0.01)
    assert DEPTHWISE.at(40, 40).groups == 40


def test_a_shape_is_measured_once_and_layers_that_do_not_change_only_as_they_are() -> None:
    asked: list[str] = []

    def measure(shapes: Sequence[LayerShape]) -> list[float]:
        asked.extend(shape.key() for shape in shapes)
        return linear(shapes)

    known: dict[str, float] = {}
    table = LatencyTable(measure, 16, known)
    table.prepare([CONV, CONV], varies_in=[False, False], varies_out=[False, False])
    assert asked == [CONV.key()]
    again = LatencyTable(measure, 16, known)
    assert again.prepare([CONV], varies_in=[False], varies_out=[False]) == 0
    table.prepare([CONV], varies_in=[True], varies_out=[True])
    assert len(asked) == len(set(asked)) == len(known)
