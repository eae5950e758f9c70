"""From an observer's statistics to a range ``(low, high)``, by any of the methods in ``range_methods/``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from deploykit.config.quantize import QuantizeConfig
from deploykit.config.registries import RANGE_METHODS
from deploykit.quantization.observers import Observer
from deploykit.quantization.schemes import Affine, Scheme, affine

RangeMethod = Callable[[Observer, Scheme, float], tuple[float, float]]
"""From what was seen, the quantizer and the percentile (which one method heeds) to the range."""
PERCENTILE: float = QuantizeConfig.model_fields["percentile"].default


def choose_range(seen: Observer, method: str, scheme: Scheme, percentile: float = PERCENTILE) -> tuple[float, float]:
    """The range of one activation: one pass of calibration serves every method, and every graph that is tried.

    ``method``: one of :data:`deploykit.config.registries.RANGE_METHODS`. ``percentile``: of values kept by that method.

    Raises:
        BadInput: an unknown method.
    """
    key = (method, scheme, percentile)
    if key not in seen.ranges:
        choose: RangeMethod = RANGE_METHODS.load(method)
        seen.ranges[key] = choose(seen, scheme, percentile)
    return seen.ranges[key]


def parameters(
    seen: Mapping[str, Observer], scheme: Scheme, method: str, *, percentile: float = PERCENTILE
) -> dict[str, Affine]:
    """Scale and zero point of every observed tensor."""
    return {name: affine(*choose_range(one, method, scheme, percentile), scheme) for name, one in seen.items()}
