"""What can be wrong in how variants hang together: cycles, and files that do not fit the next step or the target."""

from __future__ import annotations

from deploykit.config.recipe import INT8_TARGETS, ONNX_TARGETS, Variant
from deploykit.config.recipe_steps import STATES, is_qat, state_after, takes, teachers_of
from deploykit.config.yaml import Path as Place

Problem = tuple[Place, str]


def chain_problems(variants: dict[str, Variant], model_file: str) -> list[Problem]:
    """Cycles in ``from`` and between teachers, and chains whose files do not fit their steps or their target.

    Args:
        variants: that could be read.
        model_file: of the recipe, or an empty text where it trains.
    """
    found: list[Problem] = []
    needs = {name: _needs(name, variants) for name in variants}
    cyclic = {name: loop for name in variants if (loop := _loop(name, needs)) is not None}
    for name, loop in cyclic.items():
        if name == min(loop[:-1]):
            found.append((("variants", name, "from"), "a cycle: " + " from ".join(loop)))
    hanging = {name for name in variants if any(one in cyclic for one in _above(name, needs))}
    start = "graph" if model_file.lower().endswith(".onnx") else "model"
    states: dict[str, str] = {}
    for name in variants:
        if name not in cyclic and name not in hanging:
            _walk(name, variants, start, states, found)
    return found


def _needs(name: str, variants: dict[str, Variant]) -> list[str]:
    variant = variants[name]
    named = [variant.source, *(one for kind, fields in variant.chain for one in teachers_of(kind, fields))]
    return [one for one in dict.fromkeys(named) if one in variants]


def _loop(name: str, needs: dict[str, list[str]]) -> list[str] | None:
    """The way from ``name`` back to itself, or None."""
    ways = [[name]]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for one in needs[way[-1]]:
            if one == name:
                return [*way, one]
            if one not in seen:
                seen.add(one)
                ways.append([*way, one])
    return None


def _above(name: str, needs: dict[str, list[str]]) -> set[str]:
    found: set[str] = set()
    todo = [name]
    while todo:
        for one in needs[todo.pop()]:
            if one not in found:
                found.add(one)
                todo.append(one)
    return found


def _walk(name: str, variants: dict[str, Variant], start: str, states: dict[str, str], found: list[Problem]) -> str:
    """The state of the variant's last file; what does not fit is added to ``found``."""
    if name in states:
        return states[name]
    variant = variants[name]
    at = start if variant.source not in variants else _walk(variant.source, variants, start, states, found)
    inherited = at
    place: Place = ("variants", name, "steps")
    for kind, fields in variant.chain:
        wrong = _misfit(kind, fields, at, start, variant.source, inherited)
        if wrong is not None:
            found.append((place, wrong))
            break
        at = state_after(kind, fields)
    else:
        at = _at_target(name, variant, at, inherited, found)
    states[name] = at
    return at


def _misfit(kind: str, fields: dict[str, object], at: str, start: str, source: str, inherited: str) -> str | None:
    """Why a step cannot take a file in state ``at``, or None."""
    label = "quantize with method qat" if is_qat(kind, fields) else kind
    whose = source if at == inherited else "the step before"
    if kind == "export" and at == "graph":
        return f"{whose} is ONNX already, remove the export"
    if kind == "export" and at == "int8" and inherited != "int8":
        return "export comes before quantize: int8 is written into the ONNX file"
    if kind == "quantize" and at == "int8":
        return f"{whose} is int8 already, remove the quantize"
    if takes(kind, fields) == {"model"} and at == "graph":
        return f"{label} takes a model file, but the recipe starts from an ONNX file" if start == "graph" else None
    if at in takes(kind, fields) or (kind == "build" and at in ("model", "qat")):
        return None
    return f"{label} does not take {STATES[at]}, which {whose} is"


def _at_target(name: str, variant: Variant, at: str, inherited: str, found: list[Problem]) -> str:
    """The state of what the target runs: ONNX targets export and emit by themselves."""
    place: Place = ("variants", name, "target")
    made = [(kind, fields) for kind, fields in variant.chain if kind == "quantize"]
    if variant.engine in ONNX_TARGETS:
        at = {"model": "graph", "qat": "int8"}.get(at, at)
        if made and at in ("int8", "engine") and variant.engine not in INT8_TARGETS:
            found.append((place, f"int8 for {variant.engine} is not built, only {', '.join(INT8_TARGETS)}"))
        if variant.precision != "fp32" and variant.cast_by == "export" and at == "int8":
            what = f"the float part of {variant.source} has its precision already, set it where that is quantized"
            found.append((("variants", name, "precision"), what))
    elif at not in ("model", "qat"):
        what = f"starts from the ONNX of {variant.source}" if at == inherited else "exports"
        found.append((place, f"{variant.engine} runs model files, but {name} {what}"))
    return at
