"""A recipe is data: names of Python code in it run only when the command line allows it."""

from __future__ import annotations

import re
from typing import Any

from deploykit.base.errors import BadInput
from deploykit.config.recipe import Recipe

SOURCES = ("deploykit", "torchvision", "timm")
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_DATA_KINDS = ("synthetic", "cifar10", "cifar100", "imagenet")


def refuse_code(recipe: Recipe, name: str, *, allowed: bool) -> None:
    """Check that nothing in the recipe needs ``--allow-code``, unless it was given.

    Raises:
        BadInput: it names every ``module:…`` of the recipe.
    """
    places: list[tuple[str, Any, Any]] = [
        ("model.arch", recipe.model.arch, _is_arch),
        ("data", recipe.data.name, _is_data),
    ]
    places += [("benchmark.metrics", metric, bool) for metric in recipe.benchmark.get("metrics") or ()]
    for one, variant in recipe.variants.items():
        for kind, fields in variant.chain:
            places += [(f"variants.{one}.steps {kind}.arch", fields.get("arch"), _is_arch)]
            places += [(f"variants.{one}.steps {kind}.data", fields.get("data"), _is_data)]
    found = [f"{place}: {value}" for place, value, is_code in places if value and is_code(value)]
    if found and not allowed:
        raise BadInput(f"{name} names Python code: {', '.join(found)}", fix="If you trust it, add --allow-code.")


def _is_arch(name: Any) -> bool:
    return ":" in str(name) and str(name).partition(":")[0] not in SOURCES


def _is_data(name: Any) -> bool:
    return bool(_FUNCTION.fullmatch(str(name))) and str(name).partition(":")[0] not in _DATA_KINDS
