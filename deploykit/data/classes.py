"""Names of classes: their order, and the fitting of a model's outputs to them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from deploykit.base.errors import BadInput


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names in order: by value where all are whole numbers, else by the alphabet."""
    distinct = set(names)
    if all(one.isdecimal() for one in distinct):
        return tuple(sorted(distinct, key=lambda one: (int(one), one)))
    return tuple(sorted(distinct))


@cache
def imagenet_classes() -> dict[str, str]:
    """ImageNet's 1,000 WordNet ids, in the order of its networks' outputs, and what each is called; two names repeat."""
    found: dict[str, str] = json.loads(Path(__file__).with_name("imagenet_classes.json").read_text("utf-8"))["classes"]
    return found


def map_classes(
    model_classes: Sequence[str] | None, data_classes: Sequence[str] | None
) -> tuple[np.ndarray | None, str]:
    """Which output of the model stands for which class of the data.

    Names that are all plain numbers count as no names: they say no more than the index. ImageNet's WordNet ids are known:
    they are the classes of a model that has ImageNet's names, under whichever of the two.

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
    known = imagenet_classes()
    if model == tuple(known.values()) and all(one in known for one in data):
        model = tuple(known)
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
