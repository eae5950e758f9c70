"""What single commands do on the command line beside the call of their function."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from deploykit.base.errors import BadInput

if TYPE_CHECKING:
    from deploykit.base.command_result import Result
    from deploykit.base.progress import Progress
    from deploykit.cli.flags import Given
    from deploykit.config.common import Config
    from deploykit.config.recipe import Recipe

T = TypeVar("T")
Fields = dict[str, Any]
"""Plain fields of a configuration, before they are checked."""


def fields(command: str, given: Fields, extra: Given) -> Fields:
    """The configuration's fields as the command completes them.

    Args:
        command: its name.
        given: the fields that were given.
        extra: what else was given, by the parameters' names.

    Raises:
        BadInput: what was given does not fit together.
    """
    if command == "init":  # model and data stand on the command line
        return {**given, "allow_code": True}
    if command == "train":
        return _trained(given, extra.get("recipe"))
    if command == "quantize" and "modes" in given:
        raise BadInput("--sweep says what is analyzed", expected="--analyze with it")
    return given


def _trained(given: Fields, recipe: str | None) -> Fields:
    """The training of a recipe, changed by what was given; what only a recipe or a file names may not run by itself."""
    allowed = given.get("allow_code", False)
    found = {} if recipe is None else _of_recipe(Path(recipe), allowed)
    model = given.get("model", {})
    before = found.get("model", {}) if "arch" not in model else {}
    merged = {**before, **model}
    if "kwargs" in model:
        merged["kwargs"] = {**before.get("kwargs", {}), **model["kwargs"]}
    found |= {**given, "model": merged}
    if "data" not in found:
        raise BadInput("nothing to train on", expected="--data, --recipe or --config", fix="Try --data digits.")
    return {**found, "allow_code": allowed or (recipe is None and "weights" not in model)}


def _of_recipe(path: Path, allow_code: bool) -> Fields:
    from deploykit.config.recipe import ModelFile
    from deploykit.config.recipe_read import load_recipe

    recipe: Recipe = load_recipe(path)
    if isinstance(recipe.model, ModelFile):
        raise BadInput(f"{path} names a trained model", got=recipe.model.file, expected="model: {arch: …}")
    return recipe.train_config(allow_code=allow_code).plain()


def mode(command: str, given: Fields, extra: Given, flags: dict[str, str], progress: Progress) -> Result | None:
    """The result of a mode that is another function than the command's; None where the command itself is meant.

    Args:
        command: its name.
        given: the configuration's fields that were given.
        extra: what else was given, by the parameters' names.
        flags: the flag of each field, for messages.
        progress: where it shows.
    """
    if command != "quantize" or not (extra["lint"] or extra["analyze"]):
        return None
    from deploykit.config.common import build
    from deploykit.config.quantize import AnalyzeConfig

    model = needed(extra["model"], "MODEL")
    if extra["lint"]:
        from deploykit.quantization.lint.lint import lint

        return lint(model, given.get("target", AnalyzeConfig.model_fields["target"].default))
    from deploykit.quantization.analyze import analyze

    config = build(AnalyzeConfig, given, flags=flags)
    return analyze(model, extra["output"], config, force=bool(extra["force"]), progress=progress)


def check_stored(config: Config, where: str) -> None:
    """Check that a stored configuration names no user code that its maker did not allow.

    Raises:
        BadInput: it names what would run.
    """
    from deploykit.config.benchmark import BenchmarkConfig
    from deploykit.config.evaluate import EvaluateConfig

    if isinstance(config, BenchmarkConfig | EvaluateConfig):
        from deploykit.commands.evaluate import refuse_stored_code

        refuse_stored_code(config, where)


def needed(value: T | None, name: str) -> T:
    """``value``, which must have been given.

    Raises:
        BadInput: it was not; only ``--config`` makes it optional.
    """
    if value is None or value == []:
        raise BadInput(f"missing argument {name}", fix=f"Name {name}, or a stored stage with --config FILE.")
    return value
