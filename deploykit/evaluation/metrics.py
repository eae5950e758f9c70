"""A classifier judged from its logits; custom metrics are user code, ``module:function(logits, labels) -> float``."""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from deploykit.base.errors import BadInput
from deploykit.evaluation.accuracy import (
    accuracy,
    changed_by_class,
    class_table,
    confusion,
    most_confused,
    negative_flips,
    predictions,
)
from deploykit.evaluation.agreement import agreement
from deploykit.evaluation.logits import check_logits
from deploykit.reporting.quality import Accuracy

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

    ``metrics``: as :func:`load_metrics` returns them; each gets copies that it may change. ``logits``: float32 [N, C].
    ``labels``: int64 [N].

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


CLASSES_LISTED = 200
CLASSES_CROSSED = 30
FLIPS_SHOWN = 24


def judge(
    logits: np.ndarray,
    labels: np.ndarray,
    base_logits: np.ndarray | None,
    ci_level: float = 0.95,
    seed: int = 0,
    *,
    name: str = "the model",
    metrics: Mapping[str, Metric] | None = None,
    classes: tuple[str, ...] | None = None,
    images: np.ndarray | None = None,
) -> Accuracy:
    """The ``accuracy`` of a report's variant, without its ``logits_file``.

    Args:
        logits: [N, C], in the data's class order.
        labels: int64 [N].
        base_logits: [N, C] of the baseline on the same images; None leaves out everything that compares.
        ci_level: of all intervals.
        seed: of the bootstrap.
        name: of the variant, for messages.
        metrics: custom ones, by name.
        classes: names of the columns; they add the scores of each class (up to 200 classes), who is taken for whom, and
            the images that flipped.
        images: int64 [N], the number of each row's image in its split; None: the rows are all its images.

    Raises:
        BadInput: no classifier with one label per image, or a custom metric that fails.
        AnswerNo: NaN or infinite logits.
    """
    check_logits(logits, labels, name)
    found: dict[str, object] = {**accuracy(logits, labels, ci_level)}
    if base_logits is not None:
        found |= agreement(logits, base_logits, labels, ci_level, seed)
    if metrics:
        found["metrics"] = apply_metrics(metrics, logits, labels)
    if classes is not None and len(classes) == logits.shape[1]:
        base = None if base_logits is None else predictions(base_logits)
        found |= _by_class(logits, labels, base, classes, images)
    return Accuracy.model_validate(found)


def _by_class(
    logits: np.ndarray, labels: np.ndarray, base: np.ndarray | None, classes: tuple[str, ...], images: np.ndarray | None
) -> dict[str, object]:
    predicted = predictions(logits)
    matrix = confusion(predicted, labels, len(classes))
    found: dict[str, object] = {"confused": most_confused(matrix, classes)}
    if len(classes) <= CLASSES_CROSSED:
        found["confusion"] = matrix.tolist()
    table = class_table(logits, labels, classes) if len(classes) <= CLASSES_LISTED else None
    found["per_class"] = table
    if base is not None:
        changed = changed_by_class(predicted, base, labels, len(classes))
        for i, row in enumerate(table or ()):
            row["agreement"] = float(changed["agreement"][i])
            row["negative_flips"] = float(changed["negative_flips"][i])
        found["flips"] = [
            {
                "image": one["row"] if images is None else int(images[one["row"]]),
                "label": classes[one["label"]],
                "base": classes[one["base"]],
                "predicted": classes[one["predicted"]],
                "confidence": one["confidence"],
            }
            for one in negative_flips(logits, base, labels, FLIPS_SHOWN)
        ]
    return found
