"""The one vocabulary of targets and precisions."""

from __future__ import annotations

from pathlib import Path

from deploykit.base.errors import BadInput, unknown

TARGETS = ("torch-eager", "torch-compile", "ort-cpu", "ort-cuda", "ort-trt", "tensorrt", "tensorrt-rtx", "openvino")
PLANS = ("tensorrt", "tensorrt-rtx")
"""Targets that run a plan of their own, built for a GPU."""
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "fp8", "int8")
NATURAL = {
    ".pt": "torch-eager",
    ".pth": "torch-eager",
    ".safetensors": "torch-eager",
    ".pt2": "torch-eager",
    ".onnx": "ort-cpu",
    ".xml": "openvino",
}


def check_target(target: str) -> str:
    """Return ``target`` if it is known.

    Raises:
        BadInput: with the list of targets and the nearest one.
    """
    if target not in TARGETS:
        raise unknown("target", target, TARGETS)
    return target


def natural_target(path: Path) -> str:
    """The target of a file that names none: ``.pt`` torch-eager, ``.onnx`` ort-cpu.

    Raises:
        BadInput: the suffix has no natural target.
    """
    try:
        return NATURAL[path.suffix.lower()]
    except KeyError:
        raise BadInput(
            f"cannot tell what runs {path}",
            got=f"suffix {path.suffix or '(none)'}",
            expected="one of " + ", ".join(NATURAL),
            fix=f"Name the target: {path}@TARGET.",
        ) from None
