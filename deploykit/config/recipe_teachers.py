"""What can be wrong in whom a recipe's steps learn from: nobody of that name, or a student that is there already."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from deploykit.base.errors import BadInput, nearest
from deploykit.base.targets import parse_spec
from deploykit.config.recipe_steps import KINDS
from deploykit.config.yaml import Path as Place


def teacher_problems(variants: dict[str, Any]) -> list[tuple[Place, str]]:
    """Teachers that are no variant, not ``model`` and no file, and ``arch: auto`` beside the student that a step has.

    Args:
        variants: plain data as read; what is no step is left to others.
    """
    found: list[tuple[Place, str]] = []
    for name, fields in variants.items():
        steps = fields.get("steps") if isinstance(fields, dict) else None
        for i, step in enumerate(steps if isinstance(steps, list) else []):
            for kind, given in step.items() if isinstance(step, dict) else ():
                if kind in KINDS and isinstance(given, dict):
                    found += _of_step(kind, given, ("variants", name, "steps", i, kind), ["model", *variants])
    return found


def _of_step(kind: str, fields: dict[str, Any], place: Place, known: Collection[str]) -> list[tuple[Place, str]]:
    found: list[tuple[Place, str]] = []
    if kind == "distill" and fields.get("arch") == "auto":
        what = "arch auto makes a student, but the model that the step takes is one, leave it out"
        found.append(((*place, "arch"), what))
    key = KINDS[kind].teacher
    value = fields.get(key) if key is not None else None
    for text in [value] if isinstance(value, str) else value if isinstance(value, list) else []:
        if isinstance(text, str) and text not in known and (wrong := _missing(text, known)) is not None:
            found.append(((*place, str(key)), wrong))
    return found


def _missing(text: str, known: Collection[str]) -> str | None:
    """Why nothing can be learned from what ``text`` names, or None."""
    try:
        path = parse_spec(text).path
    except BadInput as error:
        return f"teacher {text!r}: {error.line()}"
    if path.is_file():
        return None
    if path.exists():
        return f"teacher {text!r} is a folder, expected a model file, a variant or model"
    close = nearest(text, known)
    return f"teacher {text!r} is no file and no variant, " + (
        f"did you mean {close!r}?" if close else f"expected a file that exists, or one of {', '.join(known)}"
    )
