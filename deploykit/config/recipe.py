"""The recipe: model, data, training, variants and budget as data, checked whole before anything runs.

The steps that a variant may have: the command each is, what it takes and makes, what the recipe fills in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from deploykit.base.targets import PRECISIONS, Target, target_of
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.config.build import BuildConfig
from deploykit.config.common import Config
from deploykit.config.distill import DistillConfig
from deploykit.config.export import ExportConfig
from deploykit.config.flag import OneOf
from deploykit.config.gate import GatePolicy
from deploykit.config.options import FileFlags, MinAgreement, MinSnrDb
from deploykit.config.prune import PruneConfig
from deploykit.config.quantize import QuantizeConfig
from deploykit.config.train import ModelConfig, TrainConfig


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


def needs(name: str, variants: Mapping[str, Variant]) -> tuple[str, ...]:
    """The variants that ``name`` is made with: the one it starts from, and those it learns from."""
    variant = variants[name]
    named = [variant.source, *(one for kind, fields in variant.chain for one in teachers_of(kind, fields))]
    return tuple(dict.fromkeys(one for one in named if one in variants))


class DataSection(Config):
    """``data``: its name, and what to do with pictures that cannot be read."""

    name: str
    skip_broken: bool = False


class ModelFile(FileFlags):
    """``model: {file: …}``: an existing model instead of training one, and what it does not state itself.

    Attributes:
        file: ``.pt``, ``.safetensors``, ``.pt2`` or ``.onnx``.
        arch: what the tensors are, where that cannot be recognised.
    """

    file: str
    arch: str | None = None

    @property
    def given(self) -> dict[str, object]:
        """What is stated of the file, as fields of a command's configuration."""
        return {name: value for name in FileFlags.model_fields if (value := getattr(self, name)) is not None}


class Variant(Config):
    """One chain of steps to one engine on one target.

    Attributes:
        source: (``from``) ``model``, or the variant whose artifact this one starts from.
        target: what runs it, with options (``TARGET:KEY=VALUE``).
        precision: of the float part.
        steps: configurations of the steps, each ``{export: {…}}``; an ONNX target exports without being told.
        accept: it is taken although it is unsure or failed: its status stays, and it may be the pick.
    """

    source: str = Field(default="model", alias="from")
    target: str
    precision: Annotated[str, OneOf(PRECISIONS)] = "fp32"
    steps: tuple[dict[str, dict[str, Any] | None], ...] = ()
    accept: bool = False

    @property
    def chain(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        """Its steps in order, each with its fields."""
        return tuple((kind, fields or {}) for step in self.steps for kind, fields in step.items())

    @property
    def cast_by(self) -> str:
        """The kind of step that brings the float part to the variant's precision."""
        if self.row.needs_build:
            return "build"
        return "quantize" if any(kind == "quantize" for kind, _ in self.chain) else "export"

    @property
    def engine(self) -> str:
        """The target without its options."""
        return self.target.partition(":")[0]

    @property
    def row(self) -> Target:
        """The target's row of the table."""
        return target_of(self.engine)


class Budget(Config):
    """What may be lost.

    Attributes:
        max_drop_pt: of top-1, in percentage points, at the upper end of its interval; it decides the pick, never a status.
        min_agreement: share of the confident answers that an engine must keep; null: 0.9 of int8 and fp8.
        min_snr_db: of its outputs, in dB; null: by its precision.
    """

    max_drop_pt: float = Field(default=1.0, ge=0)
    min_agreement: MinAgreement = None
    min_snr_db: MinSnrDb = None

    @property
    def bars(self) -> dict[str, float]:
        """What is set by hand of the bars that decide a status."""
        bars = {"min_agreement": self.min_agreement, "min_snr_db": self.min_snr_db}
        return {key: value for key, value in bars.items() if value is not None}


class Recipe(Config):
    """A whole recipe. ``train``, ``benchmark`` and steps hold the fields of their stage's configuration.

    Attributes:
        version: of the recipe format.
        name: of the run, a folder name.
        model: how to build the network (:class:`ModelConfig`), or the file of one.
        data: a data name or :class:`DataSection`.
        train: fields of :class:`TrainConfig`.
        variants: name → :class:`Variant`.
        benchmark: fields of :class:`BenchmarkConfig`.
        budget: what may be lost.
        gate: the policy that judges the report at the end: a file, a shipped one's name, or the policy itself.
    """

    version: Literal[1]
    name: str
    model: ModelFile | ModelConfig = Field(default_factory=ModelConfig, union_mode="left_to_right")
    data: DataSection
    train: dict[str, Any] = Field(default_factory=dict)
    variants: dict[str, Variant]
    benchmark: dict[str, Any] = Field(default_factory=dict)
    budget: Budget = Field(default_factory=Budget)
    gate: str | GatePolicy | None = None

    def train_config(self, *, allow_code: bool = False) -> TrainConfig:
        """The configuration of ``deploykit train``."""
        return TrainConfig.model_validate(self._train_fields(allow_code))

    def _train_fields(self, allow_code: bool) -> dict[str, Any]:
        return {**self.train, "model": self.model, **self._data_fields(allow_code)}

    def step_config(
        self, kind: str, fields: dict[str, Any], variant: Variant, *, of_file: bool, allow_code: bool = False
    ) -> Config:
        """The configuration of one step.

        Args:
            kind: of step.
            fields: that the variant sets.
            variant: whose step it is.
            of_file: its input is the recipe's own model file, for which what ``model`` states holds.
            allow_code: ``module:…`` may run.
        """
        config = KINDS[kind].config
        of_model: dict[str, Any] = {}
        if of_file and isinstance(self.model, ModelFile):
            of_model = {"arch": self.model.arch, **self.model.given}
        elif "model" in teachers_of(kind, fields) and isinstance(self.model, ModelFile):
            of_model = self.model.given
        own = {"target": variant.engine, **self._data_fields(allow_code)}
        given = {key: value for key, value in of_model.items() if key in config.model_fields}
        filled = {key: own[key] for key in KINDS[kind].filled}
        judged = kind == "quantize" or variant.precision != "fp32"
        bars = {key: bar for key, bar in self.budget.bars.items() if judged and key in config.model_fields}
        if kind == "build" and variant.row.needs_build:  # the engine serves the timed calls best
            given["batch"] = self.benchmark_config(allow_code=allow_code).batch
        if variant.precision != "fp32" and kind == variant.cast_by:
            filled["precision"] = variant.precision
            if kind == "export":
                given = {"data": self.data.name, **given}
        return config.model_validate({**KINDS[kind].defaults, **given, **bars, **fields, **filled})

    def benchmark_config(self, *, allow_code: bool = False) -> BenchmarkConfig:
        """The configuration of the one benchmark of all variants."""
        given = self.model.given if isinstance(self.model, ModelFile) else {}
        accepted = tuple(name for name, variant in self.variants.items() if variant.accept)
        own = {"max_drop_pt": self.budget.max_drop_pt, "accept_variants": accepted, **self.budget.bars}
        own |= self._data_fields(allow_code)
        return BenchmarkConfig.model_validate({"baseline": self.baseline, **given, **self.benchmark, **own})

    @property
    def baseline(self) -> str:
        """The variant that speed and accuracy are compared with: as set, else ``fp32`` where present, else the first."""
        named = self.benchmark.get("baseline")
        return named or ("fp32" if "fp32" in self.variants else next(iter(self.variants)))

    def _data_fields(self, allow_code: bool) -> dict[str, Any]:
        return {"data": self.data.name, "skip_broken": self.data.skip_broken, "allow_code": allow_code}

    def order(self) -> list[str]:
        """All variants, each after those it needs."""
        found: list[str] = []
        while len(found) < len(self.variants):
            found += [
                n for n in self.variants if n not in found and all(one in found for one in needs(n, self.variants))
            ]
        return found
