"""Read a recipe file: strict YAML, ``--set`` changes, every error at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploykit.base.errors import BadInput, from_os_error
from deploykit.config.recipe import Recipe
from deploykit.config.recipe_check import problems
from deploykit.config.yaml import Source, read_value, read_yaml


def load_recipe(path: Path, changes: tuple[str, ...] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: of the YAML file.
        changes: ``--set`` values, each ``dotted.key=YAML``.

    Raises:
        BadInput: with every error of the file at once, one line each, with line numbers.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no text file", expected="a recipe in YAML") from error
    except OSError as error:
        raise from_os_error(error, f"cannot read the recipe {path}") from error
    return parse_recipe(text, path.name, changes)


def parse_recipe(text: str, name: str, changes: tuple[str, ...] = ()) -> Recipe:
    """:func:`load_recipe` of text; ``name`` stands in messages."""
    source = read_yaml(text, name)
    if not isinstance(source.data, dict):
        raise BadInput(
            f"{name} is no recipe", got=type(source.data).__name__, expected="a mapping with version, name, data, …"
        )
    for change in changes:
        _apply(source, change)
    data = _full(source.data)
    errors = [*source.errors, *((source.line(place), f"{source.at(place)}: {what}") for place, what in problems(data))]
    if errors:
        unique = list(dict.fromkeys(text for _, text in sorted(errors, key=lambda error: error[0])))
        raise RecipeErrors(f"{name} has {len(unique)} errors", unique)
    return Recipe.model_validate(data)


class RecipeErrors(BadInput):
    """All errors of a recipe, one line each."""

    def __init__(self, head: str, errors: list[str]) -> None:
        self.errors = errors
        super().__init__(head)

    def line(self) -> str:
        """The errors one below the other; a single one stands alone."""
        return self.errors[0] if len(self.errors) == 1 else "\n  ".join([f"{self.what}:", *self.errors])


def _apply(source: Source, change: str) -> None:
    key, equals, text = change.partition("=")
    where = f"--set {change}"
    if not equals or not all(key.split(".")):
        raise BadInput(f"cannot read {where!r}", expected="--set KEY=VALUE, as in --set train.epochs=3")
    *above, last = key.split(".")
    place = source.data
    for part in above:
        place = _step(place, part, where)
    value = read_value(text, where)
    if isinstance(place, list):
        place[_index(place, last, where)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise BadInput(f"{where}: {'.'.join(above)} is no mapping", got=place)
    source.given[(*(int(part) if part.isdigit() else part for part in above), last)] = where


def _step(place: Any, part: str, where: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, part, where)]
    if not isinstance(place, dict):
        raise BadInput(f"{where}: there is nothing below {part!r}", got=place, expected="a mapping")
    if place.get(part) is None:
        place[part] = {}
    return place[part]


def _index(place: list[Any], part: str, where: str) -> int:
    if not part.isdigit() or int(part) >= len(place):
        raise BadInput(f"{where}: {part!r} is no index", expected=f"0 to {len(place) - 1}")
    return int(part)


def _full(data: dict[str, Any]) -> dict[str, Any]:
    """Empty sections left out, ``data: NAME`` written out, a policy inside has the version it is read with."""
    data = {key: value for key, value in data.items() if value is not None}
    if isinstance(data.get("gate"), dict):
        data["gate"] = {"version": 1, **data["gate"]}
    given = data.get("data")
    return {**data, "data": {"name": given}} if isinstance(given, str) else data
