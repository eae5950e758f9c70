"""What can be wrong in a recipe, all of it at once, each with its place."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ValidationError

from deploykit.base.errors import BadInput, DeploykitError, nearest
from deploykit.base.targets import PRECISIONS, check_target, parse_spec
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.config.common import Config, explain
from deploykit.config.gate_reading import policy_problems
from deploykit.config.recipe import (
    PRECISIONS_OF,
    ModelFile,
    Recipe,
    Variant,
)
from deploykit.config.recipe_chains import chain_problems
from deploykit.config.recipe_steps import KINDS, is_qat
from deploykit.config.recipe_teachers import teacher_problems
from deploykit.config.train import ModelConfig, TrainConfig
from deploykit.config.yaml import Path as Place

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
            engine = check_target(target.partition(":")[0])
            parse_spec(f"x@{target}")
        except BadInput as error:
            return [*found, ((*place, "target"), error.line())]
        known = PRECISIONS_OF.get(engine, ("fp32",))
        if precision in PRECISIONS and precision not in known:
            mend = (
                ", tf32 is an option of it: ort-cuda:use_tf32=1" if (engine, precision) == ("ort-cuda", "tf32") else ""
            )
            what = f"precision {precision} of {engine}: expected {', '.join(known)}{mend}"
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
