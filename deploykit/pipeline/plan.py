"""The stages that a recipe asks for, each once, in an order in which they can run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from deploykit.base.hashing import value_sha256
from deploykit.config.common import Config
from deploykit.config.recipe import KINDS, ModelFile, Recipe, Variant, is_qat
from deploykit.config.recipe_chain import Call, chains_of


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
    model_file = recipe.model.file if isinstance(recipe.model, ModelFile) else ""
    chains = chains_of(recipe.variants, model_file)
    planning = _Planning(recipe, allow_code, [first])
    for name in recipe.order():
        for call in chains.calls:
            if call.variant == name:
                planning.stage(call)
        planning.made_by[name] = planning.stage(chains.made_by[name]).name
    return Plan(tuple(planning.stages), {name: planning.made_by[name] for name in recipe.variants})


@dataclass
class _Planning:
    """The stages found so far."""

    recipe: Recipe
    allow_code: bool
    stages: list[Stage]
    made_by: dict[str, str] = field(default_factory=dict)
    same: dict[str, Stage] = field(default_factory=dict)
    known: dict[Call, Stage] = field(default_factory=dict)

    def stage(self, call: Call) -> Stage:
        """The stage of a call, made with those before it where they are not known yet."""
        if call.before is None:
            return self.stages[0]
        if call not in self.known:
            self.known[call] = self._made(call, self.stage(call.before))
        return self.known[call]

    def _made(self, call: Call, source: Stage) -> Stage:
        """The stage of one step, or the one of an earlier variant that does the same."""
        kind, variant = call.kind, self.recipe.variants[call.variant]
        of_file = source is self.stages[0]
        config = self.recipe.step_config(kind, call.fields, variant, of_file=of_file, allow_code=self.allow_code)
        teachers = self._teachers(kind, config)
        identity = value_sha256([source.name, kind, config.plain(), teachers])
        if identity not in self.same:
            label = self._free(f"{call.variant}.{'qat' if is_qat(kind, call.fields) else kind}")
            output = self._output(label, call, variant)
            self.same[identity] = Stage(label, kind, config, output, source.name, call.state, teachers)
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

    def _output(self, label: str, call: Call, variant: Variant) -> Path:
        """``NAME.SUFFIX`` for the variant's last file of a kind, the stage's name in it for those before."""
        plain, long = f"artifacts/{call.variant}", f"artifacts/{label}"
        if call.state in ("model", "qat"):
            return Path(f"{plain if call.last else long}.pt")
        if call.state == "engine":
            return Path(
                f"{plain}{variant.row.built}" if variant.row.needs_build else f"{plain}.built{variant.row.built}"
            )
        taken = {stage.output for stage in self.stages}
        other = f"{plain}.int8.onnx" if call.state == "int8" else f"{long}.onnx"
        return Path(f"{plain}.onnx") if Path(f"{plain}.onnx") not in taken else Path(other)


def _chain(stages: list[Stage] | tuple[Stage, ...], name: str) -> list[Stage]:
    by_name = {stage.name: stage for stage in stages}
    chain = [by_name[name]]
    while (source := chain[0].source) is not None:
        chain.insert(0, by_name[source])
    return chain
