"""Configuration of pruning."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from deploykit.config.common import Config

Importance = Literal["l2", "l1", "bn-scale", "fpgm", "lamp", "taylor", "hessian", "activation", "random"]
LatencyTarget = Literal["ort-cpu", "ort-cuda", "openvino", "tensorrt", "tensorrt-rtx"]
LATENCY_TARGETS: tuple[str, ...] = get_args(LatencyTarget)
"""Where single layers can be timed, which a latency budget needs."""
Fraction = Field(None, gt=0, lt=1)


class PruneConfig(Config):
    """One pruning. Of the budgets at most one is given, and one at least unless ``pattern`` or ``unstructured`` is.

    Attributes:
        macs: fraction of the input model's multiply-accumulates that is kept at most.
        params: fraction of its parameters that is kept at most.
        latency: fraction of its measured latency on ``target`` (fp32, batch 1, one thread) that is kept at most.
        target: where ``latency`` is measured.
        data: for the data-driven criteria (from ``train``), BatchNorm re-calibration and accuracy on ``select``.
        importance: what says which channels go; ``taylor``, ``hessian`` and ``activation`` need data.
        scope: channels compete within their layer (``local``), in the whole network (``global``), or among layers of the
            same structure (``isomorphic``); ``allocated``: within their layer, each layer as wide as its channels are worth
            what they cost (a latency budget is always allocated).
        round_to: multiple that widths keep; ``auto``: 16 in layers of 64 channels and more, 8 from 16 on, 4 from 8 on.
        keep: names of layers (or of modules that contain them) whose output channels all stay.
        ratios: layer name → fraction of its output channels that is kept, outside the budget's choice.
        steps: prune in so many steps, scoring anew at each.
        recalibrate: estimate BatchNorm statistics anew from ``data`` after each step.
        pattern: ``2:4`` also zeroes two of four weights in a row in the layers that a sparse engine can use.
        unstructured: fraction of single weights kept, an experiment: no engine here is faster for it.
        layer_times: measure each layer before and after on ONNX Runtime's CPU, for the table.
        images: pictures of ``train`` for criteria and BatchNorm.
        select_images: pictures of ``select`` for the accuracy, at most.
        batch: pictures at a time.
        threads: CPU threads; None: all cores.
        device: where the pictures are run; latency is measured on ``target`` all the same.
        size: input size in pixels where the model does not carry it.
        arch: what the tensors are, where recognition cannot tell.
        allow_code: ``module:…`` may run.
        skip_broken: leave out pictures that cannot be read, naming them.
        seed: of ``random`` and of the choice of pictures.
    """

    macs: float | None = Fraction
    params: float | None = Fraction
    latency: float | None = Fraction
    target: LatencyTarget = "ort-cpu"
    data: str | None = None
    importance: Importance = "l2"
    scope: Literal["local", "global", "isomorphic", "allocated"] = "local"
    round_to: Literal["auto"] | int = "auto"
    keep: tuple[str, ...] = ()
    ratios: dict[str, float] = Field(default_factory=dict)
    steps: int = Field(1, ge=1, le=100)
    recalibrate: bool = True
    pattern: Literal["2:4"] | None = None
    unstructured: float | None = Fraction
    layer_times: bool = False
    images: int = Field(512, ge=2)
    select_images: int = Field(1000, ge=1)
    batch: int = Field(64, ge=2)
    threads: int | None = Field(None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    size: int | None = Field(None, ge=1)
    arch: str | None = None
    allow_code: bool = False
    skip_broken: bool = False
    seed: int = Field(0, ge=0, lt=2**32)

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
        if self.pattern is not None and self.unstructured is not None:
            raise ValueError("got pattern and unstructured, expected one of them")
        for name, ratio in self.ratios.items():
            if not 0 < ratio <= 1:
                raise ValueError(f"ratios.{name}: got {ratio}, expected more than 0 and at most 1")
        if self.data is None and self.importance in ("taylor", "hessian", "activation"):
            raise ValueError(f"importance {self.importance} looks at pictures, expected data")
        return self
