"""How the pipeline calls each command: its arguments, its key in the store, its stage file."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import Any

from deploykit.base import environment
from deploykit.base.artifact import artifact_sha256, attachments_path, manifest_path, read_manifest, stage_key
from deploykit.base.hashing import combined_sha256
from deploykit.base.progress import Progress
from deploykit.base.spec import parse_spec
from deploykit.config.common import Config
from deploykit.config.prune import PruneConfig
from deploykit.config.recipe import KINDS
from deploykit.config.stage_file import write_stage
from deploykit.pipeline.plan import Stage

LIBRARIES = {
    "train": ("torch", "torchvision", "timm"),
    "prune": ("torch", "torchvision", "timm"),
    "distill": ("torch", "torchvision", "timm"),
    "export": ("torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu"),
    "quantize": ("onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "numpy"),
    "build": ("onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt_rtx", "openvino"),
    "benchmark": ("torch", "onnxruntime", "onnxruntime-gpu", "numpy"),
}
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


def teachers_of(stage: Stage, paths: dict[str, Path]) -> list[Path]:
    """The files of all models that the stage learns from, made by the recipe or given."""
    key = KINDS[stage.command].teacher if stage.command in KINDS else None
    value = getattr(stage.config, key) if key is not None else None
    named = [value] if isinstance(value, str) else list(value or ())
    return [paths[stage.teachers[one]] if one in stage.teachers else parse_spec(one).path for one in named]


def key_of(command: str, config: Config, parents: list[str], device: str = "auto") -> str:
    """The key of a stage's result: its configuration, inputs, STAGE_VERSION, libraries, and device where it matters.

    Args:
        command: the public function.
        config: its whole configuration.
        parents: sha256 of its inputs, data included.
        device: that the configuration asks for.
    """
    version = importlib.import_module(f"deploykit.commands.{command}").STAGE_VERSION
    versions, hardware = environment.library_versions(LIBRARIES[command]), _hardware(command, device)
    if isinstance(config, PruneConfig):
        from deploykit.commands.prune import timing_of

        versions, hardware = (has | more for has, more in zip((versions, hardware), timing_of(config), strict=True))
    return stage_key(command, version, config.plain(), parents, versions, hardware)


def _hardware(command: str, device: str) -> dict[str, Any]:
    if command == "export":
        return {}
    if command in ("prune", "quantize"):  # widths and what stays float are decided by time measured on this processor
        return {"cpu": environment.cpu()}
    gpus = [] if device == "cpu" else [gpu["name"] for gpu in _gpus()]
    return {"gpus": gpus, **({"cpu": environment.cpu()} if command in ("benchmark", "build") else {})}


@cache
def _gpus() -> list[environment.GpuInfo]:
    return environment.gpus()


def call(command: str, arguments: dict[str, Any], *, force: bool, progress: Progress) -> Any:
    """Run the public function ``command``."""
    function = getattr(importlib.import_module(f"deploykit.commands.{command}"), command)
    return function(**arguments, force=force, progress=progress)


def leave_stage_file(path: Path, command: str, arguments: dict[str, Any]) -> None:
    """Write the file with which ``deploykit COMMAND --config FILE`` does the stage again, alone."""
    plain = {key: value.plain() if isinstance(value, Config) else value for key, value in arguments.items()}
    texts = {key: str(value) if isinstance(value, Path) else value for key, value in plain.items()}
    write_stage(path, command, texts, PATHS[command])


def files_of_artifact(path: Path) -> list[Path]:
    """The artifact's files, what is attached to it, and its manifest."""
    manifest = read_manifest(path)
    names = sorted(set(manifest.files) | {path.name}) if manifest else [path.name]
    names += [attachments_path(path).name] if attachments_path(path).is_file() else []
    return [*(path.parent / name for name in names), manifest_path(path)]


class Data:
    """The recipe's data, opened when first asked for: whether it is the same data is part of every key."""

    def __init__(self, name: str, *, allow_code: bool, skip_broken: bool, progress: Progress) -> None:
        self.name, self.allow_code, self.skip_broken, self.progress = name, allow_code, skip_broken, progress
        self.known: dict[str, str] = {}
        self.source: Any = None

    def sha256(self, *splits: str) -> str:
        """Over the images and labels of these splits."""
        if self.source is None:
            from deploykit.data import open_data

            self.source = open_data(
                self.name, allow_code=self.allow_code, skip_broken=self.skip_broken, progress=self.progress
            )
        for split in splits:
            if split not in self.known:
                self.known[split] = self.source.split(split).sha256
        return combined_sha256(self.known[split] for split in splits)


def artifact_hash(path: Path) -> str:
    """The hash of an artifact as an input of a stage."""
    return artifact_sha256(path)
