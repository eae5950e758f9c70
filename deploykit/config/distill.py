"""Configuration of distillation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from deploykit.base.registry import listed
from deploykit.config.command import Argument, Command, output
from deploykit.config.flag import Flag, OneOf, Panel
from deploykit.config.registries import FEATURE_LOSSES, LOSSES
from deploykit.config.train import LearningConfig

_WITH_ALPHA, _WITH_BETA = (
    {name: one for name, one in LOSSES.items() if one.weighed_by == by} for by in ("alpha", "beta")
)


def _defaults(values: Mapping[str, float]) -> str:
    """``4 for kd, 1 for dkd and dist``; the value alone where it is the same for all."""
    names: dict[float, list[str]] = {}
    for name, value in values.items():
        names.setdefault(value, []).append(name)
    if len(names) == 1:
        return f"{next(iter(names)):g}"
    return ", ".join(f"{value:g} for {listed(those)}" for value, those in names.items())


def _sentence(parts: Iterable[str]) -> str:
    told = "; ".join(parts)
    return f"{told[:1].upper()}{told[1:]}."


class DistillConfig(LearningConfig):
    """One distillation: the loop's settings, and these.

    The papers' ``beta`` for ImageNet is the default; those for CIFAR (dkd at temperature 4, beta 8) need epochs of warm-up.
    ``size`` is that of the student, and of teachers that are bare tensors.
    """

    SCRATCH_LR: ClassVar[float] = 0.02

    teachers: Annotated[tuple[str, ...], Flag("--teacher"), Panel("Teachers and loss")] = Field(
        min_length=1, description="[NAME=]PATH[@TARGET[:key=value,…]]: a model file, .onnx or any engine."
    )
    combine: Literal["average", "weighted", "vote"] = Field(
        default="average",
        description="Several teachers answer by their mean, by the mean weighted to fit select best, or by that of those "
        "who voted with the majority.",
    )
    view: Literal["same", "clean"] = Field(
        default="same",
        description="Teachers see the student's augmented picture (same), or the plain one, answered once (clean).",
    )
    cache: bool = Field(default=True, description="Keep teachers' answers for later runs, where that is not much.")
    loss: Annotated[str, OneOf(LOSSES)] = Field(default="kd", description=f"Of the logits: {LOSSES.told()}.")
    temperature: float | None = Field(
        default=None,
        gt=0,
        description="Logits are divided by it; default: "
        f"{_defaults({name: one.temperature for name, one in LOSSES.items()})}.",
    )
    alpha: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description=_sentence(
            f"of {name}: weight of {one.weighs}, the rest is the labels', default {one.weight:g}"
            for name, one in _WITH_ALPHA.items()
        ),
    )
    beta: float | None = Field(
        default=None,
        ge=0,
        description=_sentence(
            f"of {name}: weight of {one.weighs}, default {one.weight:g}" for name, one in _WITH_BETA.items()
        ),
    )
    features: Annotated[str, OneOf(FEATURE_LOSSES)] | None = Field(
        default=None, description=f"Match layers too: {FEATURE_LOSSES.told()}; default: none."
    )
    layers: Annotated[tuple[str, ...], Flag("--layer")] = Field(
        default=(), description="Of --features: STUDENT=TEACHER, or one name that both have."
    )
    feature_weight: float | None = Field(
        default=None,
        ge=0,
        description="Of the layers' term; default: "
        f"{_defaults({name: one.weight for name, one in FEATURE_LOSSES.items()})}. Too much costs accuracy.",
    )
    arch: Annotated[str | None, Panel("Student")] = Field(
        default=None,
        description="Without STUDENT: SOURCE:NAME to train from scratch, or auto, a smaller one of the teacher's family. "
        "With it: what its tensors are, where that cannot be recognised.",
    )
    auto_macs: Annotated[float, Flag("--macs")] = Field(
        default=0.5, gt=0, lt=1, description="Of --arch auto: MACs at most, as a fraction of the teacher's."
    )

    @property
    def at_temperature(self) -> float:
        """The temperature, that of the loss's paper where none was set."""
        return self.temperature if self.temperature is not None else LOSSES[self.loss].temperature

    @property
    def of_teacher(self) -> float:
        """The weight of the teacher's term: alpha or beta, by the loss."""
        entry = LOSSES[self.loss]
        given = self.alpha if entry.weighed_by == "alpha" else self.beta
        return entry.weight if given is None else given

    @property
    def of_features(self) -> float:
        """The weight of the feature term."""
        if self.features is None:
            return 0.0
        return self.feature_weight if self.feature_weight is not None else FEATURE_LOSSES[self.features].weight

    @property
    def gain(self) -> float:
        """How many times the gradient of the loss is that of cross-entropy: that of T²·KL is T times as large."""
        of_labels = 1 - self.of_teacher if LOSSES[self.loss].weighed_by == "alpha" else 1.0
        return of_labels + self.of_teacher * self.at_temperature

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        entry = LOSSES[self.loss]
        if self.alpha is not None and entry.weighed_by != "alpha":
            raise ValueError(
                f"alpha: got {self.alpha} with loss {self.loss!r}, expected beta: alpha is of {listed([*_WITH_ALPHA])}"
            )
        if self.beta is not None and entry.weighed_by != "beta":
            raise ValueError(
                f"beta: got {self.beta} with loss {self.loss!r}, expected alpha: beta is of {listed([*_WITH_BETA])}"
            )
        if self.feature_weight is not None and self.features is None:
            raise ValueError("feature_weight: expected with features")
        mixed = self.augment.mixup > 0 or self.augment.cutmix > 0
        if entry.plain_labels and mixed:
            raise ValueError(
                f"loss: got {self.loss!r} with mixup or cutmix, expected plain labels: {entry.plain_labels}"
            )
        if self.view == "clean" and mixed:
            raise ValueError(
                "view: got 'clean' with mixup or cutmix, expected 'same': the teacher must see the mixture"
            )
        if self.view == "clean" and self.features is not None:
            raise ValueError(
                "view: got 'clean' with features, expected 'same': layers are compared on the same picture"
            )
        if (self.features is None) != (not self.layers):
            raise ValueError("layers: expected with features, and features with layers: name both or none")
        return self


COMMAND = Command(
    """Train a student to answer as its teachers do; the file is STUDENT.distilled.pt unless -o names it.

An interrupted run goes on where it stopped when the same command is given again. On several GPUs or processes:
torchrun --nproc-per-node 2 -m deploykit.cli.main distill …""",
    DistillConfig,
    (
        Argument(
            "model",
            "A model file, pruned or not; left out: --arch says what is built.",
            metavar="STUDENT",
            default="",
        ),
        output(),
    ),
    stored=True,
    spread=True,
)
