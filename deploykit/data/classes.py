"""Names of classes: their order, and the fitting of a model's outputs to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from deploykit.base.errors import BadInput


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names in order: by value where all are whole numbers, else by the alphabet."""
    distinct = set(names)
    if all(one.isdecimal() for one in distinct):
        return tuple(sorted(distinct, key=lambda one: (int(one), one)))
    return tuple(sorted(distinct))


def map_classes(
    model_classes: Sequence[str] | None, data_classes: Sequence[str] | None
) -> tuple[np.ndarray | None, str]:
    """Which output of the model stands for which class of the data.

    Names that are all plain numbers count as no names: they say no more than the index.

    ``data_classes``: names in the order of the labels, or None. Returns int64 ``[len(data_classes)]``, the model's
    output for each class of the data, or None where the order is the same already; and what was done, for people (empty
    where there was nothing to do).

    Raises:
        BadInput: a class of the data is none of the model's, or the counts differ without names.
    """
    if model_classes is None or data_classes is None:
        if model_classes is not None and data_classes is None:
            return None, "classes mapped by index: the data name none"
        return None, "classes mapped by index: the model names none"
    model, data = tuple(model_classes), tuple(data_classes)
    if model == data:
        return None, ""
    place = {name: index for index, name in enumerate(model)}
    missing = [name for name in data if name not in place]
    if not missing and len(place) == len(model):
        return np.array([place[name] for name in data], dtype=np.int64), (
            f"classes mapped by name: {len(data)} of the data onto {len(model)} of the model"
        )
    if len(model) == len(data) and (_numbers(model) or _numbers(data)):
        return None, f"classes mapped by index: {'the model' if _numbers(model) else 'the data'} has numbers for names"
    if len(model) == len(data) and len(place) < len(model):
        return None, "classes mapped by index: names of the model repeat"
    shown = ", ".join(repr(name) for name in missing[:3]) + (" …" if len(missing) > 3 else "")
    raise BadInput(
        f"the classes of the model and of the data do not fit: {len(missing)} of the data's are unknown to the model ({shown})",
        got=f"{len(model)} classes in the model, {len(data)} in the data",
        expected="the data's names among the model's",
        fix="Rename the class folders or labels as the model has them, or use the data it was trained on.",
    )


def _numbers(names: Sequence[str]) -> bool:
    return all(name.isdecimal() for name in names)
