"""A recipe is data: names of Python code in it run only when the command line allows it."""

from __future__ import annotations

import re

from deploykit.base.config.recipe import ModelFile, Recipe
from deploykit.base.errors import BadInput

SOURCES = ("deploykit", "torchvision", "timm")
_CODE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_DATA_KINDS = ("synthetic", "cifar10", "cifar100", "imagenet")


def refuse_code(recipe: Recipe, name: str, *, allowed: bool) -> None:
    """Check that nothing in the recipe needs ``--allow-code``, unless it was given.

    Raises:
        BadInput: it names every ``module:…`` of the recipe.
    """
    found = []
    arch = recipe.model.arch
    if arch and _CODE.fullmatch(arch) and arch.partition(":")[0] not in SOURCES:
        found.append(f"model.arch: {arch}")
    data = recipe.data.name
    if _CODE.fullmatch(data) and data.partition(":")[0] not in _DATA_KINDS:
        found.append(f"data: {data}")
    metrics = recipe.benchmark.get("metrics") or ()
    found += [f"benchmark.metrics: {metric}" for metric in metrics]
    for one, variant in recipe.variants.items():
        if variant.export and _CODE.fullmatch(str(variant.export.get("data") or "")):
            found.append(f"variants.{one}.steps: export data {variant.export['data']}")
        if isinstance(recipe.model, ModelFile) and variant.export and variant.export.get("arch"):
            own = str(variant.export["arch"])
            if _CODE.fullmatch(own) and own.partition(":")[0] not in SOURCES:
                found.append(f"variants.{one}.steps: export arch {own}")
    if found and not allowed:
        raise BadInput(
            f"{name} names Python code: {', '.join(found)}", fix="If you trust it, run it with --allow-code."
        )
