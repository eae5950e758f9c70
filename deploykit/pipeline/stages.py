"""How the pipeline calls each command: its arguments, its key in the store, its stage file."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import Any

from deploykit.base import environment
from deploykit.base.artifact import (
    Manifest,
    artifact_sha256,
    attachments_path,
    manifest_path,
    read_manifest,
    safe_name,
    stage_key,
)
from deploykit.base.choices import choices_path
from deploykit.base.progress import Progress
from deploykit.commands.stage import Opener, opener
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.config.common import Config
from deploykit.config.recipe import KINDS, DataSection
from deploykit.config.stage_file import write_stage
from deploykit.pipeline.plan import Stage

PATHS = {
    "train": ("output",),
    "prune": ("model", "output"),
    "distill": ("model", "output"),
    "build": ("model", "output"),
    "export": ("model", "output"),
    "quantize": ("model", "output"),
    "benchmark": ("artifacts", "output"),
}


def arguments_of(stage: Stage, root: Path, source: Path | None, paths: dict[str, Path]) -> dict[str, Any]:
    """The keyword arguments of the stage's public function, without ``force`` and ``progress``.

    Args:
        stage: what is called.
        root: the run folder.
        source: the artifact it takes, or None.
        paths: stage → artifact, of the stages whose artifacts it learns from.
    """
    given: dict[str, Any] = {} if source is None else {"model": source}
    config = stage.config
    if config is not None and stage.teachers:
        key = KINDS[stage.command].teacher
        assert key is not None
        named = getattr(config, key)
        one = named if isinstance(named, str) else None
        many = [
            str(paths[stage.teachers[name]]) if name in stage.teachers else name for name in ([one] if one else named)
        ]
        config = config.model_copy(update={key: many[0] if one else tuple(many)})
    return {**given, "output": root / stage.output, "config": config}


def planned(command: str, arguments: dict[str, Any], data: Opener) -> Manifest:
    """The manifest of the stage's artifact before it is made: its key is the one that the made artifact has.

    Args:
        command: the public function.
        arguments: of :func:`arguments_of`; its source and teachers are there.
        data: opens the data that its configuration names.

    Raises:
        Unavailable: this machine lacks what the artifact is made with.
    """
    module = importlib.import_module(f"deploykit.commands.{command}")
    manifest: Manifest = module.planned(arguments.get("model"), arguments["output"], arguments["config"], data)
    return manifest


def place_of(manifest: Manifest, output: Path) -> str:
    """Where the store keeps the artifact: under its key, and its name, because its files are named after it."""
    return f"{manifest.key}.{safe_name(output.name)}"


def measurement_key_of(config: BenchmarkConfig, parents: list[str]) -> str:
    """The key of a measurement: its configuration, inputs, libraries and machine.

    Args:
        config: its whole configuration.
        parents: sha256 of its inputs, data included.
    """
    from deploykit.commands.benchmark import STAGE_VERSION

    versions = environment.library_versions(environment.MEASURED_BY)
    gpus = [] if config.device == "cpu" else [gpu["name"] for gpu in _gpus()]
    hardware = {"gpus": gpus, "cpu": environment.cpu()}
    return stage_key("benchmark", STAGE_VERSION, config.plain(), parents, versions, hardware)


@cache
def _gpus() -> list[environment.GpuInfo]:
    return environment.gpus()


def call(command: str, arguments: dict[str, Any], *, force: bool, progress: Progress) -> Any:
    """Run the public function ``command``."""
    function = getattr(importlib.import_module(f"deploykit.commands.{command}"), command)
    return function(**arguments, force=force, progress=progress)


def doubt_of(path: Path) -> str:
    """What an artifact's own verdict says against it; an empty text where it is ok or was not judged."""
    manifest = read_manifest(path)
    verdict = manifest.facts.get("verdict") if manifest else None
    if not isinstance(verdict, dict) or verdict["status"] == "ok":
        return ""
    return f"{verdict['status']}: {'; '.join(verdict['reasons'])}"


def leave_stage_file(path: Path, command: str, arguments: dict[str, Any]) -> None:
    """Write the file with which ``deploykit COMMAND --config FILE`` does the stage again, alone."""
    plain = {key: value.plain() if isinstance(value, Config) else value for key, value in arguments.items()}
    texts = {key: str(value) if isinstance(value, Path) else value for key, value in plain.items()}
    write_stage(path, command, texts, PATHS[command])


def files_of_artifact(path: Path) -> list[Path]:
    """The artifact's files, what is attached to it, what time decided of it, and its manifest."""
    manifest = read_manifest(path)
    names = sorted(set(manifest.files) | {path.name}) if manifest else [path.name]
    names += [one.name for one in (attachments_path(path), choices_path(path)) if one.is_file()]
    return [*(path.parent / name for name in names), manifest_path(path)]


class Data:
    """The data that a recipe's stages name, each opened once, when first asked for.

    Args:
        recipe: what the recipe says of its own data.
        allow_code: ``module:function`` may run.
        progress: told how the data were split.
    """

    def __init__(self, recipe: DataSection, *, allow_code: bool, progress: Progress) -> None:
        self.recipe, self.allow_code, self.progress = recipe, allow_code, progress
        self.openers: dict[tuple[str | None, bool], Opener] = {}

    def opener(self, config: Config | None) -> Opener:
        """Opens what ``config`` names; the recipe's own data without one."""
        name = getattr(config, "data", None) if config is not None else self.recipe.name
        skip_broken = bool(getattr(config, "skip_broken", False)) if config is not None else self.recipe.skip_broken
        if (name, skip_broken) not in self.openers:
            self.openers[name, skip_broken] = opener(
                name, allow_code=self.allow_code, skip_broken=skip_broken, progress=self.progress
            )
        return self.openers[name, skip_broken]

    def sha256(self, split: str) -> str:
        """Over the images and labels of a split of the recipe's data."""
        return str(self.opener(None)().split(split).sha256)  # type: ignore[arg-type]


def artifact_hash(path: Path) -> str:
    """The hash of an artifact as an input of a stage."""
    return artifact_sha256(path)
