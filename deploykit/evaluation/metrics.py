"""Custom metrics: ``module:function(logits, labels) -> float``, the user's own code."""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from deploykit.base.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

Metric = Callable[..., float]


def load_metrics(names: Sequence[str]) -> dict[str, Metric]:
    """Name → function. Importing runs user code: call it only for names from the command line or with allow_code.

    Raises:
        BadInput: a name that is no ``module:function``, cannot be imported, or is not callable.
    """
    return {name: _load(name) for name in names}


def _load(name: str) -> Metric:
    place, _, attribute = name.partition(":")
    if not place or not attribute:
        raise BadInput(f"the metric {name!r} is not understood", expected="module:function")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        function = getattr(importlib.import_module(place), attribute)
    except (ImportError, AttributeError) as error:
        raise BadInput(
            f"cannot import the metric {name}: {error}", fix="Is it on PYTHONPATH or in this folder?"
        ) from error
    except Exception as error:  # user code may raise anything while it is imported
        raise BadInput(f"the metric {name} failed while imported: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise BadInput(f"the metric {name} is no function", got=type(function).__name__)
    return function


def apply_metrics(metrics: Mapping[str, Metric], logits: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """The value of each metric; None where it is NaN or infinite.

    Args:
        metrics: as :func:`load_metrics` returns them; each gets copies that it may change.
        logits: float32 [N, C].
        labels: int64 [N].

    Raises:
        BadInput: a metric failed, or returned something else than one number.
    """
    found: dict[str, float | None] = {}
    for name, function in metrics.items():
        try:
            value = function(logits.copy(), labels.copy())
        except Exception as error:  # user code may raise anything; its name and text are the message
            raise BadInput(f"the metric {name} failed: {type(error).__name__}: {error}") from error
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"the metric {name} returned no number", got=type(value).__name__, expected="one float"
            ) from error
        found[name] = number if math.isfinite(number) else None
    return found
