"""The stages that a recipe asks for, each once, in an order in which they can run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploykit.base.hashing import value_sha256
from deploykit.config.common import Config
from deploykit.config.recipe import (
    KINDS,
    ModelFile,
    Recipe,
    Variant,
    is_qat,
    state_after,
    takes,
    trains,
)


@dataclass(frozen=True)
class Stage:
    """One call of one public function.

    Attributes:
        name: ``OUTPUT.COMMAND``, the name of its stage file.
        command: the public function; ``load`` for a model file that is there already.
        config: its frozen configuration; None for ``load``.
        output: its artifact, relative to the run folder (of ``load``: relative to the working folder).
        source: name of the stage whose artifact it takes, or None.
        state: of its artifact, as :func:`deploykit.config.recipe.state_after` says.
        teachers: as the configuration names them → name of the stage whose artifact is meant.
    """

    name: str
    command: str
    config: Config | None
    output: Path
    source: str | None = None
    state: str = "model"
    teachers: dict[str, str] = field(default_factory=dict)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of all stages whose artifacts it takes."""
        return (*((self.source,) if self.source else ()), *self.teachers.values())


@dataclass(frozen=True)
class Plan:
    """All stages but the measurement.

    Attributes:
        stages: in an order in which they can run.
        made_by: variant → name of the stage whose artifact it measures.
    """

    stages: tuple[Stage, ...]
    made_by: dict[str, str]

    def chain(self, variant: str) -> list[Stage]:
        """The stages that lead to the artifact of ``variant``, the first first."""
        return _chain(self.stages, self.made_by[variant])

    def users(self, stage: str) -> list[str]:
        """The variants that need what ``stage`` makes, as their own, as a step towards it or as a teacher."""
        by_name = {one.name: one for one in self.stages}

        def needed(name: str) -> bool:
            return name == stage or any(needed(one) for one in by_name[name].needs)

        return [variant for variant, last in self.made_by.items() if needed(last)]


def plan(recipe: Recipe, *, allow_code: bool = False) -> Plan:
    """The stages of ``recipe``; variants that need the same artifact share the stage that makes it."""
    if isinstance(recipe.model, ModelFile):
        path = Path(recipe.model.file)
        first = Stage("model.load", "load", None, path, state="graph" if path.suffix.lower() == ".onnx" else "model")
    else:
        first = Stage("model.train", "train", recipe.train_config(allow_code=allow_code), Path("artifacts/model.pt"))
    planning = _Planning(recipe, allow_code, [first])
    for name in recipe.order():
        planning.add(name, recipe.variants[name])
    return Plan(tuple(planning.stages), {name: planning.made_by[name] for name in recipe.variants})


@dataclass
class _Planning:
    """The stages found so far."""

    recipe: Recipe
    allow_code: bool
    stages: list[Stage]
    made_by: dict[str, str] = field(default_factory=dict)
    same: dict[str, Stage] = field(default_factory=dict)

    def add(self, name: str, variant: Variant) -> None:
        """The stages of one variant; the one it starts from is planned already."""
        at = self.stages[0] if variant.source == "model" else _named(self.stages, self.made_by[variant.source])
        for i, (kind, fields) in enumerate(variant.chain):
            if takes(kind, fields) == {"model"} and at.state != "model":
                at = next(one for one in reversed(_chain(self.stages, at.name)) if one.state == "model")
            if kind != "export" and at.state == "model" and not trains(kind, fields):
                at = self._stage(name, variant, "export", {}, at)
            if kind == "build" and at.state == "qat":
                at = self._stage(name, variant, "quantize", {}, at)
            at = self._stage(name, variant, kind, fields, at, last=_is_last(variant, i))
        if variant.row.takes_onnx and at.state in ("model", "qat"):
            at = self._stage(name, variant, "export" if at.state == "model" else "quantize", {}, at)
        if variant.cast_by == "export" and at.state == "graph" and _precision(at) != variant.precision:
            at = self._stage(name, variant, "export", {}, at)
        if variant.row.needs_build and at.state in ("graph", "int8"):
            at = self._stage(name, variant, "build", {}, at)
        self.made_by[name] = at.name

    def _stage(
        self, name: str, variant: Variant, kind: str, fields: dict[str, Any], source: Stage, *, last: bool = True
    ) -> Stage:
        """The stage of one step, or the one of an earlier variant that does the same."""
        config = self.recipe.step_config(
            kind, fields, variant, of_file=source is self.stages[0], allow_code=self.allow_code
        )
        teachers = self._teachers(kind, config)
        identity = value_sha256([source.name, kind, config.plain(), teachers])
        if identity not in self.same:
            label = self._free(f"{name}.{'qat' if is_qat(kind, fields) else kind}")
            state = state_after(kind, fields)
            output = self._output(name, label, kind, state, variant, last=last)
            self.same[identity] = Stage(label, kind, config, output, source.name, state, teachers)
            self.stages.append(self.same[identity])
        return self.same[identity]

    def _teachers(self, kind: str, config: Config) -> dict[str, str]:
        """What the configuration names as teacher and is made here: the model, or a variant's last model file."""
        key = KINDS[kind].teacher
        value = getattr(config, key) if key is not None else None
        named = [value] if isinstance(value, str) else list(value or ())
        found = {}
        for one in named:
            if one == "model":
                found[one] = self.stages[0].name
            elif one in self.made_by:
                chain = _chain(self.stages, self.made_by[one])
                found[one] = next(stage.name for stage in reversed(chain) if stage.state == "model")
        return found

    def _free(self, label: str) -> str:
        used = {stage.name for stage in self.stages}
        return next(name for name in (label, *(f"{label}{i}" for i in range(2, 99))) if name not in used)

    def _output(self, name: str, label: str, kind: str, state: str, variant: Variant, *, last: bool) -> Path:
        """``NAME.SUFFIX`` for the variant's last file of a kind, the stage's name in it for those before."""
        plain, long = f"artifacts/{name}", f"artifacts/{label}"
        if state in ("model", "qat"):
            return Path(f"{plain if last else long}.pt")
        if state == "engine":
            return Path(
                f"{plain}{variant.row.built}" if variant.row.needs_build else f"{plain}.built{variant.row.built}"
            )
        taken = {stage.output for stage in self.stages}
        other = f"{plain}.int8.onnx" if state == "int8" else f"{long}.onnx"
        return Path(f"{plain}.onnx") if Path(f"{plain}.onnx") not in taken else Path(other)


def _precision(stage: Stage) -> str:
    """That an export stage made its file in; what the recipe was given counts as fp32."""
    return str(getattr(stage.config, "precision", "fp32"))


def _is_last(variant: Variant, i: int) -> bool:
    return not any(trains(kind, fields) for kind, fields in variant.chain[i + 1 :])


def _chain(stages: list[Stage] | tuple[Stage, ...], name: str) -> list[Stage]:
    by_name = {stage.name: stage for stage in stages}
    chain = [by_name[name]]
    while (source := chain[0].source) is not None:
        chain.insert(0, by_name[source])
    return chain


def _named(stages: list[Stage], name: str) -> Stage:
    return next(stage for stage in stages if stage.name == name)
