"""A recipe by path or, of those that come with deploykit, by name; Python code that it names runs only when allowed."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from deploykit.base.errors import BadInput, nearest
from deploykit.config.recipe import Recipe

SOURCES = ("deploykit", "torchvision", "timm")


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
    from deploykit.data.forms import names_code

    return names_code(str(name))


def shipped_recipes() -> dict[str, Path]:
    """Name → path of the recipes inside the package."""
    folder = Path(str(files("deploykit.recipes")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name: str) -> Path:
    """The recipe file that a user's word means: a path first, else a shipped name.

    Raises:
        BadInput: neither; it lists the shipped ones.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if name in shipped:
        return shipped[name]
    if path.is_dir():
        raise BadInput(f"the recipe {name} is a folder", expected="a YAML file")
    close = nearest(name, shipped)
    raise BadInput(
        f"there is no recipe {name}",
        expected="a path, or one of " + ", ".join(shipped),
        fix=f"Did you mean {close!r}?" if close else "deploykit init writes one.",
    )
