"""What can be wrong in a recipe, all of it at once, each with its place.

What can be wrong in how variants hang together: cycles, and files that do not fit the next step or the target.

What can be wrong in whom a recipe's steps learn from: nobody of that name, or a student that is there already.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, ValidationError

from deploykit.base.errors import BadInput, DeploykitError, nearest
from deploykit.base.spec import parse_spec
from deploykit.base.targets import PRECISIONS, target_names, target_of
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.config.common import Config, explain
from deploykit.config.gate import policy_problems
from deploykit.config.recipe import (
    KINDS,
    STATES,
    ModelFile,
    Recipe,
    Variant,
    is_qat,
    state_after,
    takes,
    teachers_of,
)
from deploykit.config.train import ModelConfig, TrainConfig
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
    if variant.engine not in target_names():  # which is said of the target itself
        return at
    row = variant.row
    if row.takes_onnx:
        at = {"model": "graph", "qat": "int8"}.get(at, at)
        if made and at in ("int8", "engine") and row.dialect is None:
            able = ", ".join(target_names(lambda other: other.dialect is not None))
            found.append((place, f"int8 for {row.name} is not built, only {able}"))
        if variant.precision != "fp32" and variant.cast_by == "export" and at == "int8":
            what = f"the float part of {variant.source} has its precision already, set it where that is quantized"
            found.append((("variants", name, "precision"), what))
    elif at not in ("model", "qat"):
        what = f"starts from the ONNX of {variant.source}" if at == inherited else "exports"
        found.append((place, f"{variant.engine} runs model files, but {name} {what}"))
    return at


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
        if isinstance(text, str) and text not in known and (wrong := _missing_teacher(text, known)) is not None:
            found.append(((*place, str(key)), wrong))
    return found


def _missing_teacher(text: str, known: Collection[str]) -> str | None:
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


_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ELSEWHERE = {
    "against": "use deploykit benchmark RUN_FOLDER --against REF",
    "target": "the variant's target is meant, set it there",
    "data": "set data at the top of the recipe",
    "model": "set model at the top of the recipe",
    "allow_code": "pass --allow-code on the command line",
    "skip_broken": "set data: {name: …, skip_broken: true}",
    "max_drop_pt": "set budget: {max_drop_pt: …}",
    "precision": "set the variant's precision",
}


def problems(data: dict[str, Any]) -> list[tuple[Place, str]]:
    """Every error of a recipe's plain data: the place, and what is wrong there."""
    found: list[tuple[Place, str]] = []
    plain = dict(data)
    if isinstance(data.get("gate"), dict):
        found += [(("gate", *place), f"gate.{what}") for place, what in policy_problems(data["gate"])]
        found += _gated(data["gate"].get("limits"), plain.get("variants"))
        del plain["gate"]
    if not isinstance(plain.get("data", {}), dict):
        found.append((("data",), f"data: got {plain['data']!r}, expected a name or {{name: …, skip_broken: …}}"))
        plain["data"] = {"name": ""}
    model = ModelFile if isinstance(plain.get("model"), dict) and "file" in plain["model"] else ModelConfig
    skeleton = {**plain, "model": {}, "train": {}, "benchmark": {}, "variants": {}}
    found += _check(Recipe, skeleton, ())
    found += _check(model, plain.get("model", {}), ("model",))
    if "train" in plain and model is ModelFile:
        found.append((("train",), "model.file names a trained model, remove train or the file"))
    elif model is ModelConfig:
        found += _stage(TrainConfig, plain.get("train"), ("train",), ("model", "data", "allow_code", "skip_broken"))
    name = plain.get("name")
    if isinstance(name, str) and not _SAFE_NAME.fullmatch(name):
        found.append((("name",), f"name {name!r} cannot be a folder name, use letters, digits, '.', '_' and '-'"))
    variants = plain.get("variants")
    if not isinstance(variants, dict) or not variants:
        found.append((("variants",), "variants: expected a mapping of at least one NAME: {target: …}"))
        variants = {}
    found += _variants(variants, str(plain.get("model", {}).get("file", "")) if model is ModelFile else "")
    found += _stage(
        BenchmarkConfig,
        plain.get("benchmark"),
        ("benchmark",),
        ("data", "allow_code", "skip_broken", "max_drop_pt", "against"),
    )
    baseline = (plain.get("benchmark") or {}).get("baseline") if isinstance(plain.get("benchmark"), dict) else None
    if isinstance(baseline, str) and baseline not in variants:
        found.append((("benchmark", "baseline"), _missing("baseline", baseline, variants)))
    return found


def _gated(limits: Any, variants: Any) -> list[tuple[Place, str]]:
    """Limits on variants that are not in the recipe."""
    if not isinstance(limits, dict) or not isinstance(variants, dict):
        return []
    unknown = [name for name in limits if name not in variants and name != "*"]
    return [(("gate", "limits", name), _missing("variant", str(name), variants)) for name in unknown]


def _stage(kind: type[Config], fields: Any, place: Place, elsewhere: tuple[str, ...]) -> list[tuple[Place, str]]:
    if fields is None:
        fields = {}
    if not isinstance(fields, dict):
        return [(place, f"{'.'.join(map(str, place))}: got {fields!r}, expected a mapping")]
    wrong = [((*place, key), f"{key} does not belong here, {_ELSEWHERE[key]}") for key in elsewhere if key in fields]
    rest = {key: value for key, value in fields.items() if key not in elsewhere}
    filled = {**rest, "data": "digits"} if "data" in elsewhere else rest
    return [*wrong, *_check(kind, filled, place)]


def _check(kind: type[BaseModel], fields: Any, place: Place) -> list[tuple[Place, str]]:
    try:
        kind.model_validate(fields)
    except ValidationError as error:
        return [((*place, *one["loc"]), _prefixed(explain(kind, one), place)) for one in error.errors()]
    except DeploykitError as error:
        return [(place, error.line())]
    return []


def _prefixed(message: str, place: Place) -> str:
    if not place or message.startswith(("unknown key", "missing key")):
        return message
    return f"{'.'.join(map(str, place))}.{message}".replace(".(top):", ":")


def _variants(variants: dict[str, Any], model_file: str) -> list[tuple[Place, str]]:
    found: list[tuple[Place, str]] = []
    for name, fields in variants.items():
        place: Place = ("variants", name)
        if not _SAFE_NAME.fullmatch(name) or name == "model":
            found.append((place, f"variant name {name!r}: use letters, digits, '.', '_' and '-', and not 'model'"))
        found += _check(Variant, fields, place)
        if not isinstance(fields, dict):
            continue
        found += _target(fields, place)
        found += _steps(fields.get("steps"), place)
        source = fields.get("from", "model")
        if isinstance(source, str) and source != "model" and source not in variants:
            found.append(((*place, "from"), _missing("variant", source, ["model", *variants])))
    chains = {}
    for name, fields in variants.items():
        try:
            chains[name] = Variant.model_validate(fields)
        except ValidationError:
            continue
    known = {name: one for name, one in chains.items() if all(kind in KINDS for kind, _ in one.chain)}
    return found + chain_problems(known, model_file) + teacher_problems(variants)


def _target(fields: dict[str, Any], place: Place) -> list[tuple[Place, str]]:
    target, precision = fields.get("target"), fields.get("precision", "fp32")
    found: list[tuple[Place, str]] = []
    if isinstance(target, str):
        try:
            row = target_of(target.partition(":")[0])
            parse_spec(f"x@{target}")
        except BadInput as error:
            return [*found, ((*place, "target"), error.line())]
        if precision in PRECISIONS and precision not in row.precisions:
            option = dict(row.options).get(precision)
            mend = f", {precision} is an option of it: {row.name}:{option}" if option else ""
            what = f"precision {precision} of {row.name}: expected {', '.join(row.precisions)}{mend}"
            found.append(((*place, "precision"), what))
    return found


def _steps(steps: Any, place: Place) -> list[tuple[Place, str]]:
    found: list[tuple[Place, str]] = []
    kinds: list[str] = []
    for i, step in enumerate(steps if isinstance(steps, list) else []):
        here: Place = (*place, "steps", i)
        if not isinstance(step, dict) or len(step) != 1:
            found.append((here, "a step has one name: - export: {…}"))
            continue
        [(kind, fields)] = step.items()
        kinds.append("qat" if is_qat(kind, fields if isinstance(fields, dict) else {}) else kind)
        if kind in KINDS:
            given = {**KINDS[kind].defaults, **fields} if isinstance(fields, dict) else fields or KINDS[kind].defaults
            found += _stage(KINDS[kind].config, given, (*here, kind), KINDS[kind].filled)
        else:
            close = nearest(kind, tuple(KINDS))
            mend = f"did you mean {close!r}?" if close else "known: " + ", ".join(KINDS)
            found.append(((*here, kind), f"unknown step {kind!r}, {mend}"))
    once = [kind for kind in kinds if kind in ("export", "quantize", "build")]
    found += [
        ((*place, "steps"), f"{kind} stands twice in one variant, keep one")
        for kind in dict.fromkeys(once)
        if once.count(kind) > 1
    ]
    return found


def _missing(kind: str, name: str, known: Any) -> str:
    close = nearest(name, known)
    return f"{kind} {name!r} is not there, " + (f"did you mean {close!r}?" if close else f"known: {', '.join(known)}")
