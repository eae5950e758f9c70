"""The text of a recipe that fits a model and data, commented."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from deploykit.base import environment
from deploykit.base.errors import BadInput
from deploykit.base.targets import ORT_CUDA, TORCH_COMPILE, TORCH_EAGER, target_of
from deploykit.config.init import InitConfig


@dataclass(frozen=True)
class SeenModel:
    """What a look at the model told.

    Attributes:
        arch: ``SOURCE:NAME``, or ``ONNX``.
        file: it lies in, or None.
        classes: number of its outputs, where known.
        size: (height, width) of its input, where known.
        trained: it has weights that were trained.
    """

    arch: str
    file: Path | None
    classes: int | None
    size: tuple[int, int] | None
    trained: bool


def recipe_text(
    seen: SeenModel,
    file: str,
    name: str,
    classes: tuple[str, ...],
    size: tuple[int, int],
    config: InitConfig,
    *,
    fits: bool,
) -> str:
    """The recipe.

    Args:
        seen: the model.
        file: name of the recipe's file.
        name: of the run.
        classes: of the data.
        size: height and width of the input in pixels.
        config: the data, the target and the goal.
        fits: the model's outputs are the data's classes.

    Raises:
        BadInput: an ONNX file, which cannot be fine-tuned, does not fit the data.
    """
    shown = ", ".join(classes[:5]) + (", …" if len(classes) > 5 else "")
    onnx = seen.file is not None and seen.file.suffix.lower() == ".onnx"
    if onnx and not fits:
        raise BadInput(
            f"{seen.file} does not fit the data {config.data}",
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
        f"data: {json.dumps(config.data, ensure_ascii=False)}",
        "",
        *_model_part(seen, size, fits),
        *(() if seen.trained and fits else _train_part(seen, size)),
        *_variants_part(onnx, config),
        *_rest(config.goal),
    ]
    return "\n".join(parts) + "\n"


def _size(size: tuple[int, int]) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def _model_part(seen: SeenModel, size: tuple[int, int], fits: bool) -> list[str]:
    if seen.trained and fits:
        own = f", size: {_size(size)}" if seen.size is None else ""
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


def _train_part(seen: SeenModel, size: tuple[int, int]) -> list[str]:
    tuned = seen.file is not None
    return [
        "train:",
        f"  size: {_size(size)}                  # input pixels",
        f"  epochs: {5 if tuned else 30}",
        "  batch: 64",
        "  optimizer: sgd            # or adamw",
        f"  lr: {0.01 if tuned else 0.1}",
        "  schedule: cosine",
        "  warmup_epochs: 1",
        "  augment: {shift_px: 2}    # flip: 0.5 where a mirrored image is still of its class",
        "",
    ]


def _variants_part(onnx: bool, config: InitConfig) -> list[str]:
    target, goal = config.target, config.goal
    lines = ["# What is measured, together; fp32 is the baseline. A # before a line switches it off.", "variants:"]
    if not onnx:
        lines += [
            f"  eager: {{target: {TORCH_EAGER}}}     # PyTorch, the reference",
            f"  compiled: {{target: {TORCH_COMPILE}}}",
        ]
    lines.append(f"  fp32: {{target: {target}}}")
    if environment.gpus() and target_of(target).on_cpu:
        lines.append(f"  cuda: {{target: {ORT_CUDA}}}         # ONNX Runtime on the GPU")
    held = ", max_drop: 0.3" if goal == "accurate" else ""
    int8 = f"      - quantize: {{images: 256{held}}}"
    told = (
        "layers go back to float until the drop on select holds"
        if held
        else "ranges from training images, choices on select"
    )
    lines += [f"  int8:                       # {told}", f"    target: {target}", "    steps:", int8]
    if onnx:
        return [*lines, "# Pruning and distilling need the model file that the .onnx was exported from.", ""]
    budget = {"small": "params: 0.3", "accurate": "macs: 0.8"}.get(goal or "", "macs: 0.5")
    pruned = [
        "  pruned:                     # whole channels taken away, then trained to answer as the whole network does",
        f"    target: {target}",
        "    steps:",
        f"      - prune: {{{budget}}}",
        "      - distill: {epochs: 5}",
        "  pruned-int8:                # the same on integers",
        "    from: pruned",
        f"    target: {target}",
        "    steps:",
        int8,
    ]
    off = [] if goal else ["  # Smaller and faster, for some minutes of training:"]
    return [*lines, *off, *(pruned if goal else [f"  # {line[2:]}" for line in pruned]), ""]


def _rest(goal: str | None) -> list[str]:
    drop = {"accurate": 0.5, "small": 2.0}.get(goal or "", 1.0)
    return [
        "benchmark:",
        "  baseline: fp32",
        "  batch: 1                  # images a call",
        "  threads: 1",
        "  until: 0.02               # stop when every speed-up is known to ± 2 %,",
        "  max_time_s: 60            # or after this time",
        "",
        f"budget: {{max_drop_pt: {drop}}}  # top-1 points the pick may lose; the pick is the fastest that keeps it",
    ]
