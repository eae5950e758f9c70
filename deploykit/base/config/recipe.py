"""The recipe: model, data, training, variants and budget as data, checked whole before anything runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from deploykit.base.config.common import Config, explain
from deploykit.base.config.export import ExportConfig
from deploykit.base.config.measure import BenchmarkConfig
from deploykit.base.config.train import ModelConfig, TrainConfig
from deploykit.base.config.yaml_errors import Path as Place
from deploykit.base.config.yaml_errors import Source, read_value, read_yaml
from deploykit.base.errors import BadInput, DeploykitError, from_os_error, nearest
from deploykit.base.targets import PRECISIONS, check_target, parse_spec

ONNX_TARGETS = frozenset({"ort-cpu", "ort-cuda", "ort-trt", "tensorrt", "tensorrt-rtx", "openvino"})
BUILT_TARGETS = ("torch-eager", "torch-compile", "ort-cpu", "ort-cuda")
LATER_STEPS = ("prune", "distill", "quantize", "build")
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ELSEWHERE = {
    "data": "set data at the top of the recipe",
    "model": "set model at the top of the recipe",
    "allow_code": "pass --allow-code on the command line",
    "skip_broken": "set data: {name: …, skip_broken: true}",
    "max_drop_pt": "set budget: {max_drop_pt: …}",
}


class DataSection(Config):
    """``data``: its name, and what to do with pictures that cannot be read."""

    name: str
    skip_broken: bool = False


class ModelFile(Config):
    """``model: {file: …}``: an existing model instead of training one.

    Attributes:
        file: ``.pt``, ``.safetensors``, ``.pt2`` or ``.onnx``.
        arch: what the tensors are, where that cannot be recognised.
        size: input size where the file does not carry it.
    """

    file: str
    arch: str | None = None
    size: int | None = Field(None, ge=1)


class Variant(Config):
    """One chain of steps to one engine on one target.

    Attributes:
        source: (``from``) ``model``, or the variant whose artifact this one starts from.
        target: what runs it, with options (``ort-cuda:use_tf32=0``).
        precision: of the float part.
        steps: configurations of the steps, each ``{export: {…}}``; an ONNX target exports without being told.
    """

    source: str = Field("model", alias="from")
    target: str
    precision: Literal[PRECISIONS] = "fp32"  # type: ignore[valid-type]
    steps: tuple[dict[str, dict[str, Any] | None], ...] = ()

    @property
    def export(self) -> dict[str, Any] | None:
        """The fields of its export step, or None where it has none."""
        return next((step["export"] or {} for step in self.steps if "export" in step), None)

    @property
    def engine(self) -> str:
        """The target without its options."""
        return self.target.partition(":")[0]


class Budget(Config):
    """What may be lost.

    Attributes:
        max_drop_pt: of top-1, in percentage points, at the upper end of its interval.
    """

    max_drop_pt: float = Field(1.0, ge=0)


class Recipe(Config):
    """A whole recipe. ``train``, ``benchmark`` and steps hold the fields of their stage's configuration.

    Attributes:
        version: of the recipe format.
        name: of the run, a folder name.
        model: how to build the network (:class:`ModelConfig`), or the file of one.
        data: a data name or :class:`DataSection`.
        train: fields of :class:`TrainConfig`.
        variants: name → :class:`Variant`.
        benchmark: fields of :class:`BenchmarkConfig`.
        budget: what may be lost.
    """

    version: Literal[1]
    name: str
    model: ModelFile | ModelConfig = Field(default_factory=ModelConfig, union_mode="left_to_right")
    data: DataSection
    train: dict[str, Any] = Field(default_factory=dict)
    variants: dict[str, Variant]
    benchmark: dict[str, Any] = Field(default_factory=dict)
    budget: Budget = Field(default_factory=Budget)

    def train_config(self, *, allow_code: bool = False) -> TrainConfig:
        """The configuration of ``deploykit train``."""
        return TrainConfig.model_validate(self._train_fields(allow_code))

    def _train_fields(self, allow_code: bool) -> dict[str, Any]:
        return {**self.train, "model": self.model, **self._data_fields(allow_code)}

    def export_config(self, name: str, *, allow_code: bool = False) -> ExportConfig:
        """The configuration of the export of variant ``name``."""
        given = {"arch": self.model.arch, "size": self.model.size} if isinstance(self.model, ModelFile) else {}
        fields = self.variants[name].export or {}
        return ExportConfig.model_validate({**given, **fields, "allow_code": allow_code})

    def benchmark_config(self, *, allow_code: bool = False) -> BenchmarkConfig:
        """The configuration of the one benchmark of all variants."""
        given = {"size": self.model.size} if isinstance(self.model, ModelFile) and self.model.size else {}
        own = {"max_drop_pt": self.budget.max_drop_pt, **self._data_fields(allow_code)}
        return BenchmarkConfig.model_validate({"baseline": self.baseline, **given, **self.benchmark, **own})

    @property
    def baseline(self) -> str:
        """The variant that speed and accuracy are compared with: as set, else ``fp32`` where present, else the first."""
        named = self.benchmark.get("baseline")
        return named or ("fp32" if "fp32" in self.variants else next(iter(self.variants)))

    def _data_fields(self, allow_code: bool) -> dict[str, Any]:
        return {"data": self.data.name, "skip_broken": self.data.skip_broken, "allow_code": allow_code}

    def chain(self, name: str) -> list[str]:
        """The variants from the one that starts at the model to ``name``."""
        names = [name]
        while (source := self.variants[names[0]].source) != "model":
            names.insert(0, source)
        return names


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
    errors = [*source.errors, *((source.line(place), f"{source.at(place)}: {what}") for place, what in _problems(data))]
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
    """Empty sections left out, ``data: NAME`` written out."""
    data = {key: value for key, value in data.items() if value is not None}
    given = data.get("data")
    return {**data, "data": {"name": given}} if isinstance(given, str) else data


def _problems(data: dict[str, Any]) -> list[tuple[Place, str]]:
    found: list[tuple[Place, str]] = []
    plain = dict(data)
    if "gate" in data:
        found.append((("gate",), "gate is not built yet in this version, remove it"))
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
        ("data", "allow_code", "skip_broken", "max_drop_pt"),
    )
    baseline = (plain.get("benchmark") or {}).get("baseline") if isinstance(plain.get("benchmark"), dict) else None
    if isinstance(baseline, str) and baseline not in variants:
        found.append((("benchmark", "baseline"), _missing("baseline", baseline, variants)))
    return found


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
    return found + _chains(chains, model_file)


def _target(fields: dict[str, Any], place: Place) -> list[tuple[Place, str]]:
    target, precision = fields.get("target"), fields.get("precision", "fp32")
    found: list[tuple[Place, str]] = []
    if precision in PRECISIONS and precision != "fp32":
        found.append(((*place, "precision"), f"precision {precision} is not built yet in this version, only fp32"))
    if isinstance(target, str):
        try:
            engine = check_target(target.partition(":")[0])
            parse_spec(f"x@{target}")
        except BadInput as error:
            return [*found, ((*place, "target"), error.line())]
        if engine not in BUILT_TARGETS:
            built = ", ".join(BUILT_TARGETS)
            found.append(((*place, "target"), f"target {engine} is not built yet in this version, only {built}"))
    return found


def _steps(steps: Any, place: Place) -> list[tuple[Place, str]]:
    found: list[tuple[Place, str]] = []
    for i, step in enumerate(steps if isinstance(steps, list) else []):
        here: Place = (*place, "steps", i)
        if not isinstance(step, dict) or len(step) != 1:
            found.append((here, "a step has one name: - export: {…}"))
            continue
        [(kind, fields)] = step.items()
        if kind == "export":
            found += _stage(ExportConfig, fields, (*here, "export"), ("allow_code",))
        elif kind in LATER_STEPS:
            found.append(((*here, kind), f"step {kind} is not built yet in this version, only export"))
        else:
            close = nearest(kind, ("export", *LATER_STEPS))
            found.append(((*here, kind), f"unknown step {kind!r}" + (f", did you mean {close!r}?" if close else "")))
    exports = [step for step in steps if isinstance(step, dict) and "export" in step] if isinstance(steps, list) else []
    if len(exports) > 1:
        found.append(((*place, "steps"), "export stands twice in one variant, keep one"))
    return found


def _chains(variants: dict[str, Variant], model_file: str) -> list[tuple[Place, str]]:
    """Cycles in ``from``, and chains whose files do not fit their target."""
    found: list[tuple[Place, str]] = []
    for name, variant in variants.items():
        above: list[str] = []
        source = variant.source
        while source in variants and source not in above:
            above.append(source)
            source = variants[source].source
        if source in above:
            loop = above[above.index(source) :]
            if name == min(loop):
                found.append((("variants", name, "from"), "a cycle: " + " from ".join([*loop, source])))
            continue
        onnx = model_file.lower().endswith(".onnx") or any(variants[one].engine in ONNX_TARGETS for one in above)
        if onnx and variant.export is not None:
            found.append((("variants", name, "steps"), f"{variant.source} is ONNX already, remove the export"))
        elif variant.engine not in ONNX_TARGETS and (onnx or variant.export is not None):
            what = "exports" if variant.export is not None else f"starts from the ONNX of {variant.source}"
            found.append((("variants", name, "target"), f"{variant.engine} runs model files, but {name} {what}"))
    return found


def _missing(kind: str, name: str, known: Any) -> str:
    close = nearest(name, known)
    return f"{kind} {name!r} is not there, " + (f"did you mean {close!r}?" if close else f"known: {', '.join(known)}")
