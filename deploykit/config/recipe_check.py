"""What can be wrong in a recipe, all of it at once, each with its place."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, ValidationError

from deploykit.base.errors import BadInput, DeploykitError, nearest
from deploykit.base.spec import parse_spec
from deploykit.base.targets import PRECISIONS, target_of
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.config.common import Config, explain, united
from deploykit.config.gate import policy_problems
from deploykit.config.recipe import KINDS, ModelFile, Recipe, Variant, is_qat
from deploykit.config.recipe_chain import Problem, chains_of
from deploykit.config.train import ModelConfig, TrainConfig
from deploykit.config.yaml import Path as Place


def teacher_problems(variants: dict[str, Any]) -> list[Problem]:
    """Teachers that are no variant, not ``model`` and no file, and ``arch: auto`` beside the student that a step has.

    Args:
        variants: plain data as read; what is no step is left to others.
    """
    found: list[Problem] = []
    for name, fields in variants.items():
        steps = fields.get("steps") if isinstance(fields, dict) else None
        for i, step in enumerate(steps if isinstance(steps, list) else []):
            for kind, given in step.items() if isinstance(step, dict) else ():
                if kind in KINDS and isinstance(given, dict):
                    found += _of_step(kind, given, ("variants", name, "steps", i, kind), ["model", *variants])
    return found


def _of_step(kind: str, fields: dict[str, Any], place: Place, known: Collection[str]) -> list[Problem]:
    found: list[Problem] = []
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
_BARS = ("max_drop_pt", "min_agreement", "min_snr_db", "accept", "accept_variants")
_ELSEWHERE = {
    "against": "use deploykit benchmark RUN_FOLDER --against REF",
    "target": "the variant's target is meant, set it there",
    "data": "set data at the top of the recipe",
    "model": "set model at the top of the recipe",
    "allow_code": "pass --allow-code on the command line",
    "skip_broken": "set data: {name: …, skip_broken: true}",
    "max_drop_pt": "set budget: {max_drop_pt: …}",
    "min_agreement": "set budget: {min_agreement: …}",
    "min_snr_db": "set budget: {min_snr_db: …}",
    "accept": "set accept: true of the variant",
    "accept_variants": "set accept: true of the variants",
    "precision": "set the variant's precision",
}


def problems(data: dict[str, Any]) -> list[Problem]:
    """Every error of a recipe's plain data: the place, and what is wrong there."""
    found: list[Problem] = []
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
        ("data", "allow_code", "skip_broken", "against", *_BARS),
    )
    baseline = (plain.get("benchmark") or {}).get("baseline") if isinstance(plain.get("benchmark"), dict) else None
    if isinstance(baseline, str) and baseline not in variants:
        found.append((("benchmark", "baseline"), _missing("baseline", baseline, variants)))
    return found


def _gated(limits: Any, variants: Any) -> list[Problem]:
    """Limits on variants that are not in the recipe."""
    if not isinstance(limits, dict) or not isinstance(variants, dict):
        return []
    unknown = [name for name in limits if name not in variants and name != "*"]
    return [(("gate", "limits", name), _missing("variant", str(name), variants)) for name in unknown]


def _stage(kind: type[Config], fields: Any, place: Place, elsewhere: tuple[str, ...]) -> list[Problem]:
    if fields is None:
        fields = {}
    if not isinstance(fields, dict):
        return [(place, f"{'.'.join(map(str, place))}: got {fields!r}, expected a mapping")]
    wrong = [((*place, key), f"{key} does not belong here, {_ELSEWHERE[key]}") for key in elsewhere if key in fields]
    rest = {key: value for key, value in fields.items() if key not in elsewhere}
    filled = {**rest, "data": "digits"} if "data" in elsewhere else rest
    return [*wrong, *_check(kind, filled, place)]


def _check(kind: type[BaseModel], fields: Any, place: Place) -> list[Problem]:
    try:
        kind.model_validate(fields)
    except ValidationError as error:
        return [((*place, *one["loc"]), _prefixed(explain(kind, one), place)) for one in united(error.errors())]
    except DeploykitError as error:
        return [(place, error.line())]
    return []


def _prefixed(message: str, place: Place) -> str:
    if not place or message.startswith(("unknown key", "missing key")):
        return message
    return f"{'.'.join(map(str, place))}.{message}".replace(".(top):", ":")


def _variants(variants: dict[str, Any], model_file: str) -> list[Problem]:
    found: list[Problem] = []
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
    return found + chains_of(known, model_file).problems + teacher_problems(variants)


def _target(fields: dict[str, Any], place: Place) -> list[Problem]:
    target, precision = fields.get("target"), fields.get("precision", "fp32")
    found: list[Problem] = []
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


def _steps(steps: Any, place: Place) -> list[Problem]:
    found: list[Problem] = []
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
