"""Write a commented recipe for a given model and data, after a look at both."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploykit.base import environment
from deploykit.base.atomic import write_text
from deploykit.base.command_result import Result
from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.config.init import InitConfig
from deploykit.config.keywords import by_keywords
from deploykit.config.recipe_read import parse_recipe


@dataclass(frozen=True)
class InitResult(Result):
    """The recipe that was written.

    Attributes:
        path: of the recipe.
        name: of the recipe.
        trains: whether it trains, or starts from a trained file.
        notes: what was found out about model and data.
    """

    path: Path
    name: str
    trains: bool
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, for ``--json``."""
        return {
            "path": self.path.as_posix(),
            "name": self.name,
            "trains": self.trains,
            "notes": list(self.notes),
        }

    def summary(self) -> str:
        """For people: what was found, and what to do next."""
        return "\n".join([*self.notes, f"wrote {self.path}", f"next: deploykit run {self.path} --dry-run"])


@dataclass(frozen=True)
class _Seen:
    """What a look at the model told."""

    arch: str
    file: Path | None
    classes: int | None
    size: tuple[int, int] | None
    trained: bool


@by_keywords(InitConfig)
def init(
    model: str | Path,
    output: Path | str | None = None,
    config: InitConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> InitResult:
    """Write a recipe that fits ``model`` and the configured data.

    A model file whose number of classes fits the data's is taken as trained; one that does not is fine-tuned; the name
    of an architecture is trained from scratch.

    Args:
        model: a model file, an ``.onnx``, or ``SOURCE:NAME`` of an architecture.
        output: the recipe; None: ``recipe.yaml``.
        config: the data, and what the files do not carry.
        force: write over an existing file.
        progress: where opening the data tells where it is.

    Raises:
        BadInput: no such model or data, or the output exists.
    """
    if config is None:
        raise BadInput("init needs data", expected="config=InitConfig(data=…)")
    output = Path(output or "recipe.yaml")
    if output.exists() and not force:
        raise BadInput(f"{output} exists", fix="Choose another -o, or pass --force.")
    seen = _look_at(model, config)
    from deploykit.data import open_data

    data = open_data(config.data, allow_code=config.allow_code, progress=progress)
    size = (
        config.size or (seen.size[0] if seen.size else None) or (max(data.natural_size) if data.natural_size else None)
    )
    if size is None:
        raise BadInput(f"neither {model} nor {config.data} carries an input size", fix="Name it with --size PIXELS.")
    name = (
        config.name or re.sub(r"[^A-Za-z0-9._-]+", "-", Path(str(model).replace(":", "-")).stem).strip("-._") or "run"
    )
    text = _recipe(seen, output.name, name, config.data, data.classes, size, fits=seen.classes == len(data.classes))
    parse_recipe(text, output.name)
    write_text(output, text)
    notes = (
        f"model: {seen.arch}" + (f", {seen.classes} classes" if seen.classes else ""),
        f"data: {config.data}, {len(data.classes)} classes, input {size} px",
    )
    return InitResult(output, name, "\ntrain:" in text, notes)


def _look_at(model: str | Path, config: InitConfig) -> _Seen:
    path = Path(model)
    if path.suffix.lower() == ".onnx":
        from deploykit.engines import open_runner

        with open_runner(path, size=config.size) as runner:
            shape = runner.outputs[0].shape
            classes = shape[1] if len(shape) == 2 and isinstance(shape[1], int) else None
            size = runner.preprocessing.size if runner.preprocessing else None
        return _Seen("ONNX", path, classes, size, True)
    from deploykit import models

    if ":" in str(model) and not path.exists():
        arch = models.parse_arch(str(model))
        models.build(arch, None, allow_code=config.allow_code)
        return _Seen(models.arch_text(arch), None, None, None, False)
    loaded = models.load_model(path, arch=config.arch, size=config.size, allow_code=config.allow_code)
    size = loaded.preprocessing.size if loaded.preprocessing else None
    head = loaded.module.get_submodule(models.head_of(loaded.module))
    outputs = getattr(head, "out_features", None) or getattr(head, "out_channels", None)
    return _Seen(models.arch_text(loaded.arch), path, outputs, size, True)


def _recipe(seen: _Seen, file: str, name: str, data: str, classes: tuple[str, ...], size: int, *, fits: bool) -> str:
    shown = ", ".join(classes[:5]) + (", …" if len(classes) > 5 else "")
    onnx = seen.file is not None and seen.file.suffix.lower() == ".onnx"
    if onnx and not fits:
        raise BadInput(
            f"{seen.file} does not fit the data {data}",
            got=f"{seen.classes} outputs",
            expected=f"{len(classes)} classes",
            fix="Start from the model file it was exported from, which can be fine-tuned.",
        )
    parts = [
        f"# deploykit run {file} --dry-run shows the plan; results go to runs/{name}/.",
        "version: 1",
        f"name: {name}",
        "",
        f"# {len(classes)} classes: {' '.join(shown.split())}".replace("\r", " "),
        f"data: {json.dumps(data, ensure_ascii=False)}",
        "",
        *_model_part(seen, size, fits),
        *(() if seen.trained and fits else _train_part(seen, size)),
        *_variants_part(onnx),
        *_rest(),
    ]
    return "\n".join(parts) + "\n"


def _model_part(seen: _Seen, size: int, fits: bool) -> list[str]:
    if seen.trained and fits:
        own = f", size: {size}" if seen.size is None else ""
        return [
            f"# {seen.arch}, trained already; its outputs fit the classes of the data.",
            f"model: {{file: {json.dumps(str(seen.file), ensure_ascii=False)}{own}}}",
            "",
        ]
    lines = ["model:", f"  arch: {json.dumps(seen.arch, ensure_ascii=False)}"]
    if seen.file is not None:
        lines.append(
            f"  weights: {json.dumps(str(seen.file), ensure_ascii=False)}  # {seen.classes} outputs: the head is replaced"
        )
        lines.append("  freeze: false             # true trains the head only")
    elif seen.arch.startswith(("torchvision:", "timm:")):
        lines.append("  download: false           # true starts from the library's pretrained weights")
    return [*lines, ""]


def _train_part(seen: _Seen, size: int) -> list[str]:
    tuned = seen.file is not None
    return [
        "train:",
        f"  size: {size}                  # input pixels",
        f"  epochs: {5 if tuned else 30}",
        "  batch: 64",
        "  optimizer: sgd            # or adamw",
        f"  lr: {0.01 if tuned else 0.1}",
        "  schedule: cosine",
        "  warmup_epochs: 1",
        "  augment: {shift_px: 2}    # flip: 0.5 where a mirrored picture is still of its class",
        "",
    ]


def _variants_part(onnx: bool) -> list[str]:
    lines = ["# What is measured, together; fp32 is the baseline.", "variants:"]
    if not onnx:
        lines += ["  eager: {target: torch-eager}     # PyTorch, the reference", "  compiled: {target: torch-compile}"]
    lines.append("  fp32: {target: ort-cpu}          # ONNX Runtime on the CPU")
    if environment.gpus():
        lines.append("  cuda: {target: ort-cuda}         # ONNX Runtime on the GPU")
    return [*lines, ""]


def _rest() -> list[str]:
    return [
        "benchmark:",
        "  baseline: fp32",
        "  batch: 1                  # pictures a call",
        "  threads: 1",
        "  until: 0.02               # stop when every speed-up is known to ± 2 %,",
        "  max_time_s: 60            # or after this time",
        "",
        "budget: {max_drop_pt: 1.0}  # top-1 points the pick may lose",
    ]
