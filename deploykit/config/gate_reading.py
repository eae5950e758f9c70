"""Read a policy file: strict YAML, every error at once with its line."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from deploykit.base.errors import BadInput, from_os_error, nearest
from deploykit.config.common import explain
from deploykit.config.gate import GatePolicy, Limits
from deploykit.config.yaml import read_yaml

EVERY = "*"


def shipped_policies() -> dict[str, Path]:
    """Name → path of the policies that come with deploykit."""
    return {path.stem: path for path in sorted(Path(str(files("deploykit.recipes"))).glob("gates/*.yaml"))}


def load_policy(name: str) -> GatePolicy:
    """The policy that a user's word means: a file first, else a shipped name.

    Raises:
        BadInput: neither, or with every error of the file at once, each with its line.
    """
    path, shipped = Path(name), shipped_policies()
    if not path.exists() and name in shipped:
        path = shipped[name]
    elif not path.exists():
        close = nearest(name, shipped)
        raise BadInput(
            f"there is no policy {name}",
            expected="a path, or one of " + ", ".join(shipped),
            fix=f"Did you mean {close!r}?" if close else None,
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no text file", expected="a policy in YAML") from error
    except OSError as error:
        raise from_os_error(error, f"cannot read the policy {path}") from error
    return parse_policy(text, path.name)


def parse_policy(text: str, name: str) -> GatePolicy:
    """:func:`load_policy` of text; ``name`` stands in messages.

    Raises:
        BadInput: with every error, each with its line.
    """
    source = read_yaml(text, name)
    if not isinstance(source.data, dict):
        raise BadInput(
            f"{name} is no policy", got=type(source.data).__name__, expected="a mapping with version and limits"
        )
    found = [text for _, text in sorted(source.errors)]
    found += [f"{source.at(place)}: {what}" for place, what in policy_problems(source.data)]
    if found:
        raise BadInput(" · ".join(dict.fromkeys(found)))
    return GatePolicy.model_validate(source.data)


def policy_problems(fields: Any) -> list[tuple[tuple[str | int, ...], str]]:
    """Every error of a policy's plain data: the place in it, and what is wrong there; a misspelt key with the nearest."""
    try:
        GatePolicy.model_validate(fields)
    except ValidationError as error:
        return [(tuple(one["loc"]), _explained(one)) for one in error.errors()]
    return []


def _explained(error: Any) -> str:
    place = error["loc"]
    if len(place) < 3 or place[0] != "limits":
        return explain(GatePolicy, error)
    inner = explain(Limits, {**error, "loc": place[2:]})
    return f"limits.{place[1]}: {inner}"
