"""Configuration of pruning."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from deploykit.base.registry import listed
from deploykit.base.targets import ORT_CPU, WITH_LAYER_TIMES
from deploykit.config.command import Argument, Command, output
from deploykit.config.flag import HIDDEN, Flag, OneOf, Panel
from deploykit.config.options import AllowCode, Arch, Device, FileFlags, SkipBroken, Threads, data_help
from deploykit.config.registries import CRITERIA
from deploykit.config.texts import fractions, whole

Fraction = Annotated[float | None, Field(gt=0, lt=1)]


class PruneConfig(FileFlags):
    """One pruning. Of the budgets at most one is given, and one at least unless ``pattern`` or ``unstructured`` is."""

    macs: Annotated[Fraction, Panel("Budget: one of these")] = Field(
        default=None, description="Fraction of the multiply-accumulates that is kept at most."
    )
    params: Fraction = Field(default=None, description="Fraction of the parameters that is kept at most.")
    latency: Fraction = Field(
        default=None, description="Fraction of the latency on --target that is kept at most (fp32, batch 1, 1 thread)."
    )
    target: Annotated[str, OneOf(WITH_LAYER_TIMES)] = Field(default=ORT_CPU, description="Where --latency is measured.")
    choices: Annotated[str | None, Flag(metavar="FILE")] = Field(
        default=None,
        description="Replay the widths that --latency chose before (OUTPUT.choices.json): nothing is measured.",
    )
    ratios: Annotated[dict[str, float], Flag("--ratio", metavar="LAYER=FRACTION", many=True, parse=fractions)] = Field(
        default_factory=dict,
        description="Fraction of a layer's output channels that is kept, outside the budget's choice.",
    )
    pattern: Literal["2:4"] | None = Field(
        default=None, description="2:4 zeroes two of four weights in the layers a sparse engine can use."
    )
    unstructured: Fraction = Field(
        default=None, description="Experiment: fraction of single weights kept; no engine here is faster for it."
    )
    importance: Annotated[str, OneOf(CRITERIA), Panel("Choice of channels")] = Field(
        default="l2",
        description=f"What a channel is worth: {CRITERIA.told()}. "
        f"{listed([one.name for one in CRITERIA.values() if one.from_data])} need --data.",
    )
    scope: Literal["local", "global", "isomorphic", "allocated"] = Field(
        default="local",
        description="Channels compete within their layer (local), in the whole network (global), or among layers of like "
        "structure (isomorphic); allocated: within their layer, each layer as wide as its channels are worth what they "
        "cost (a latency budget is always allocated).",
    )
    round_to: Annotated[Literal["auto"] | int, Flag(parse=whole)] = Field(
        default="auto",
        description="Multiple that widths keep; auto: 16 in layers of 64 channels and more, 8 from 16 on, 4 from 8 on.",
    )
    keep: tuple[str, ...] = Field(default=(), description="Layer or module whose output channels all stay.")
    steps: int = Field(default=1, ge=1, le=100, description="Prune in so many steps, scoring anew at each.")
    layer_times: bool = Field(
        default=False, description=f"Measure each layer before and after on {ORT_CPU}, for the table."
    )
    data: Annotated[str | None, Panel("Data")] = Field(
        default=None,
        description=data_help("Criteria and BatchNorm look at its train split, accuracy is that of select"),
    )
    images: int = Field(default=512, ge=2, description="Training images for criteria and least squares.")
    select_images: Annotated[int, HIDDEN] = Field(
        default=1000, ge=1, description="Pictures of select for the accuracy, at most."
    )
    recalibrate: bool = Field(
        default=True,
        description="Estimate BatchNorm anew after a step, on train images until its statistics are stable.",
    )
    reconstruct: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="New weights, by least squares on --data, for the layers that read removed channels; auto: where that "
        "helps on select.",
    )
    skip_broken: SkipBroken = False
    arch: Annotated[Arch, Panel("Model and machine")] = None
    batch: int = Field(default=64, ge=2, description="Batch size.")
    threads: Threads = None
    device: Device = "auto"
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of everything random.")
    allow_code: AllowCode = False

    @property
    def budget(self) -> tuple[str, float] | None:
        """The budget that is given, as (macs, params or latency; fraction kept)."""
        given = [(name, getattr(self, name)) for name in ("macs", "params", "latency")]
        return next(((name, value) for name, value in given if value is not None), None)

    @field_validator("round_to", mode="before")
    @classmethod
    def _multiple(cls, value: Any) -> Any:
        if value != "auto" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"got {value!r}, expected auto or 1 and more")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = [name for name in ("macs", "params", "latency") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"got the budgets {' and '.join(given)}, expected one of them")
        if not given and not self.ratios and self.pattern is None and self.unstructured is None:
            raise ValueError("no budget, expected one of macs, params, latency (the fraction kept), pattern or ratios")
        if self.choices is not None and self.latency is None:
            raise ValueError("choices are of a latency budget, expected latency")
        if self.pattern is not None and self.unstructured is not None:
            raise ValueError("got pattern and unstructured, expected one of them")
        for name, ratio in self.ratios.items():
            if not 0 < ratio <= 1:
                raise ValueError(f"ratios.{name}: got {ratio}, expected more than 0 and at most 1")
        if self.data is None and CRITERIA[self.importance].from_data:
            raise ValueError(f"importance {self.importance} looks at pictures, expected data")
        return self


COMMAND = Command(
    "Remove channels from a model until it costs at most a fraction of what it did; the file loads like any other.",
    PruneConfig,
    (Argument("model", "A model file (.pt, .safetensors)."), output()),
    stored=True,
)
