"""The stages that a recipe asks for, each once, in an order in which they can run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploykit.base.config.common import Config
from deploykit.base.config.recipe import ONNX_TARGETS, ModelFile, Recipe
from deploykit.base.hashing import value_sha256


@dataclass(frozen=True)
class Stage:
    """One call of one public function.

    Attributes:
        name: ``OUTPUT.COMMAND``, the name of its stage file.
        command: the public function; ``load`` for a model file that is there already.
        config: its frozen configuration; None for ``load``.
        output: its artifact, relative to the run folder (of ``load``: relative to the working folder).
        source: name of the stage whose artifact it takes, or None.
    """

    name: str
    command: str
    config: Config | None
    output: Path
    source: str | None = None


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
        by_name = {stage.name: stage for stage in self.stages}
        chain = [by_name[self.made_by[variant]]]
        while (source := chain[0].source) is not None:
            chain.insert(0, by_name[source])
        return chain


def plan(recipe: Recipe, *, allow_code: bool = False) -> Plan:
    """The stages of ``recipe``; variants that need the same artifact share the stage that makes it."""
    if isinstance(recipe.model, ModelFile):
        first = Stage("model.load", "load", None, Path(recipe.model.file))
    else:
        first = Stage("model.train", "train", recipe.train_config(allow_code=allow_code), Path("artifacts/model.pt"))
    stages = [first]
    made_by: dict[str, str] = {}
    same: dict[str, str] = {}
    for name in sorted(recipe.variants, key=lambda one: len(recipe.chain(one))):
        variant = recipe.variants[name]
        source = first if variant.source == "model" else _named(stages, made_by[variant.source])
        made_by[name] = source.name
        if source.output.suffix.lower() != ".onnx" and variant.engine in ONNX_TARGETS:
            config = recipe.export_config(name, allow_code=allow_code)
            identity = value_sha256([source.name, config.plain()])
            if identity not in same:
                stages.append(Stage(f"{name}.export", "export", config, Path(f"artifacts/{name}.onnx"), source.name))
                same[identity] = f"{name}.export"
            made_by[name] = same[identity]
            source = _named(stages, same[identity])
        if variant.quantize is not None:
            settings = recipe.quantize_config(name, allow_code=allow_code)
            stages.append(Stage(f"{name}.quantize", "quantize", settings, _int8_output(name, source), source.name))
            made_by[name] = f"{name}.quantize"
    return Plan(tuple(stages), {name: made_by[name] for name in recipe.variants})


def _int8_output(name: str, source: Stage) -> Path:
    """``NAME.onnx``, or ``NAME.int8.onnx`` where the float file of the same variant has that name."""
    plain = Path(f"artifacts/{name}.onnx")
    return plain if source.output != plain else Path(f"artifacts/{name}.int8.onnx")


def _named(stages: list[Stage], name: str) -> Stage:
    return next(stage for stage in stages if stage.name == name)
