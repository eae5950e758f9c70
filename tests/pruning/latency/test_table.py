"""The latency table: a grid of widths, interpolated; every shape is measured once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from deploykit.pruning.latency.table import LatencyTable, LayerShape, thinned

CONV = LayerShape(64, 128, (3, 3), (1, 1), (1, 1), (1, 1), 1, (28, 28))
DEPTHWISE = LayerShape(96, 96, (3, 3), (1, 1), (1, 1), (1, 1), 96, (28, 28))


def linear(shapes: Sequence[LayerShape]) -> list[float]:
    """Milliseconds as if time were MACs: what bilinear interpolation gives back exactly."""
    return [shape.c_in * shape.c_out / shape.groups * 1e-3 + 0.01 for shape in shapes]


def multiples(step: int, full: int) -> list[int]:
    return [*range(step, full, step), full]


def test_interpolation_is_exact_where_time_is_bilinear() -> None:
    table = LatencyTable(linear)
    assert table.prepare([CONV], [multiples(16, 64)], [multiples(16, 128)]) > 10
    for c_in, c_out in [(64, 128), (48, 80), (33, 71), (16, 16), (8, 100)]:
        assert table.time_ms(CONV, c_in, c_out) == pytest.approx(c_in * c_out * 1e-3 + 0.01)


def test_a_depthwise_layer_has_one_width() -> None:
    table = LatencyTable(linear)
    measured = table.prepare([DEPTHWISE], [multiples(8, 96)], [multiples(8, 96)])
    assert measured <= 6
    assert table.time_ms(DEPTHWISE, 40, 40) == pytest.approx(0.04 + 0.01)
    assert DEPTHWISE.at(40, 40).groups == 40


def test_a_shape_is_measured_once_and_layers_that_do_not_change_only_as_they_are() -> None:
    asked: list[str] = []

    def measure(shapes: Sequence[LayerShape]) -> list[float]:
        asked.extend(shape.key() for shape in shapes)
        return linear(shapes)

    known: dict[str, float] = {}
    table = LatencyTable(measure, known)
    table.prepare([CONV, CONV], [[], []], [[64 * 2], []])
    assert asked == [CONV.key()]
    again = LatencyTable(measure, known)
    assert again.prepare([CONV], [[]], [[]]) == 0
    table.prepare([CONV], [multiples(16, 64)], [multiples(16, 128)])
    assert len(asked) == len(set(asked)) == len(known)


def test_a_width_that_kernels_dislike_is_measured_not_drawn_between_its_neighbours() -> None:
    def stairs(shapes: Sequence[LayerShape]) -> list[float]:
        return [2.0 if shape.c_out % 16 else 1.0 for shape in shapes]

    layer = LayerShape(16, 32, (3, 3), (1, 1), (1, 1), (1, 1), 1, (16, 16))
    table = LatencyTable(stairs)
    table.prepare([layer], [[]], [multiples(8, 32)])
    assert [table.time_ms(layer, 16, width) for width in (8, 16, 24, 32)] == [2.0, 1.0, 2.0, 1.0]


def test_of_many_widths_some_are_measured_and_all_of_them_are_ones_that_pruning_may_choose() -> None:
    assert thinned([8, 16, 24, 32]) == [8, 16, 24, 32]
    assert thinned(multiples(16, 512)) == [80, 160, 224, 304, 416, 512]
    assert thinned([]) == []
