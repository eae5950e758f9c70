"""Recipes by path or, for those that come with deploykit, by name."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from deploykit.base.errors import BadInput, nearest


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
