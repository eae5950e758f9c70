"""From an observer's statistics to a range ``(low, high)``, by any of the methods in ``range_methods/``."""

from __future__ import annotations

from collections.abc import Callable

from deploykit.config.quantize import QuantizeConfig
from deploykit.config.registries import RANGE_METHODS
from deploykit.quantization.observers import Observer
from deploykit.quantization.schemes import Scheme

RangeMethod = Callable[[Observer, Scheme, float], tuple[float, float]]
"""From what was seen, the quantizer and the percentile (which one method heeds) to the range."""
PERCENTILE: float = QuantizeConfig.model_fields["percentile"].default


def choose_range(seen: Observer, method: str, scheme: Scheme, percentile: float = PERCENTILE) -> tuple[float, float]:
    """The range of one activation: one pass of calibration serves every method.

    ``method``: one of :data:`deploykit.config.registries.RANGE_METHODS`. ``percentile``: of values kept by that method.

    Raises:
        BadInput: an unknown method.
    """
    choose: RangeMethod = RANGE_METHODS.load(method)
    return choose(seen, scheme, percentile)
