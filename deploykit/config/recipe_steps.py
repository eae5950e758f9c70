"""The steps that a variant may have: the command each is, what it takes and makes, what the recipe fills in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deploykit.config.build import BuildConfig
from deploykit.config.common import Config
from deploykit.config.distill import DistillConfig
from deploykit.config.export import ExportConfig
from deploykit.config.prune import PruneConfig
from deploykit.config.quantize import QuantizeConfig


@dataclass(frozen=True)
class StepKind:
    """One kind of step.

    Attributes:
        config: its stage's configuration.
        filled: fields that the recipe sets itself, from its top or the variant; a step may not have them.
        takes: states its input may be in (see :func:`state_after`).
        makes: the state of its output.
        teacher: the field that names models to learn from: ``model``, a variant or a file; None: it has none.
        defaults: fields that a recipe sets where the step does not.
    """

    config: type[Config]
    filled: tuple[str, ...]
    takes: frozenset[str]
    makes: str
    teacher: str | None = None
    defaults: dict[str, Any] = field(default_factory=dict)


_DATA = ("data", "allow_code", "skip_broken")
KINDS: dict[str, StepKind] = {
    "prune": StepKind(PruneConfig, _DATA, frozenset({"model"}), "model"),
    "distill": StepKind(
        DistillConfig, _DATA, frozenset({"model"}), "model", teacher="teachers", defaults={"teachers": ("model",)}
    ),
    "export": StepKind(ExportConfig, ("allow_code",), frozenset({"model"}), "graph"),
    "quantize": StepKind(
        QuantizeConfig, ("target", *_DATA), frozenset({"model", "qat", "graph"}), "int8", teacher="qat_teacher"
    ),
    "build": StepKind(
        BuildConfig, ("target", *_DATA), frozenset({"graph", "int8"}), "engine", defaults={"beside": "none"}
    ),
}
STATES = {
    "model": "a model file",
    "qat": "a model trained for int8",
    "graph": "an ONNX file",
    "int8": "an int8 ONNX file",
    "engine": "an engine",
}


def is_qat(kind: str, fields: dict[str, Any] | None) -> bool:
    """Whether the step trains for int8: it makes a model file, which another ``quantize`` only writes out."""
    return kind == "quantize" and (fields or {}).get("method") == "qat"


def takes(kind: str, fields: dict[str, Any] | None) -> frozenset[str]:
    """States that the step's input may be in."""
    return frozenset({"model"}) if is_qat(kind, fields) else KINDS[kind].takes


def state_after(kind: str, fields: dict[str, Any] | None) -> str:
    """The state of the step's output: ``model``, ``qat``, ``graph``, ``int8`` or ``engine``."""
    return "qat" if is_qat(kind, fields) else KINDS[kind].makes


def trains(kind: str, fields: dict[str, Any] | None) -> bool:
    """Whether the step makes a model file."""
    return state_after(kind, fields) in ("model", "qat")


def teachers_of(kind: str, fields: dict[str, Any] | None) -> tuple[str, ...]:
    """What the step names to learn from."""
    key = KINDS[kind].teacher if kind in KINDS else None
    value = {**KINDS[kind].defaults, **(fields or {})}.get(key) if key is not None else None
    return (value,) if isinstance(value, str) else tuple(value or ())
