"""Configuration of distillation."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from deploykit.config.command import Argument, Command, output
from deploykit.config.flag import Flag, Panel
from deploykit.config.train import LearningConfig

TEMPERATURES = {"kd": 4.0, "dkd": 1.0, "dist": 1.0}
BETAS = {"dkd": 0.5, "dist": 1.0}
FEATURE_WEIGHTS = {"attention": 1.0, "hint": 1.0}


class DistillConfig(LearningConfig):
    """One distillation: the loop's settings, and these.

    The papers' ``beta`` for ImageNet is the default; those for CIFAR (dkd at temperature 4, beta 8) need epochs of warm-up.
    ``size`` is that of the student, and of teachers that are bare tensors.
    """

    lr: float = Field(0.02, gt=0, description="Peak learning rate at this batch size.")
    teachers: Annotated[tuple[str, ...], Flag("--teacher"), Panel("Teachers and loss")] = Field(
        min_length=1, description="[NAME=]PATH[@TARGET[:key=value,…]]: a model file, .onnx or any engine."
    )
    combine: Literal["average", "weighted", "vote"] = Field(
        "average",
        description="Several teachers answer by their mean, by the mean weighted to fit select best, or by that of those "
        "who voted with the majority.",
    )
    view: Literal["same", "clean"] = Field(
        "same",
        description="Teachers see the student's augmented picture (same), or the plain one, answered once (clean).",
    )
    cache: bool = Field(True, description="Keep teachers' answers for later runs, where that is not much.")
    loss: Literal["kd", "dkd", "dist"] = Field(
        "kd", description="Of the logits: kd (Hinton 2015), dkd (Zhao 2022) or dist (Huang 2022)."
    )
    temperature: float | None = Field(
        None, gt=0, description="Logits are divided by it; default: 4 for kd, 1 for dkd and dist."
    )
    alpha: float | None = Field(
        None, ge=0, le=1, description="Of kd: weight of the teacher, the rest is the labels'; default: 0.9."
    )
    beta: float | None = Field(
        None,
        ge=0,
        description="Of dkd: weight of the other classes, default 0.5; of dist: of both relations, default 1.",
    )
    features: Literal["attention", "hint"] | None = Field(
        None, description="Match layers too: attention (Zagoruyko 2017) or hint (Romero 2015); default: none."
    )
    layers: Annotated[tuple[str, ...], Flag("--layer")] = Field(
        (), description="Of --features: STUDENT=TEACHER, or one name that both have."
    )
    feature_weight: float | None = Field(
        None, ge=0, description="Of the layers' term; default: 1. Too much costs accuracy."
    )
    arch: Annotated[str | None, Panel("Student")] = Field(
        None,
        description="Without STUDENT: SOURCE:NAME to train from scratch, or auto, a smaller one of the teacher's family. "
        "With it: what its tensors are, where that cannot be recognised.",
    )
    auto_macs: Annotated[float, Flag("--macs")] = Field(
        0.5, gt=0, lt=1, description="Of --arch auto: MACs at most, as a fraction of the teacher's."
    )

    @property
    def at_temperature(self) -> float:
        """The temperature, that of the loss's paper where none was set."""
        return self.temperature if self.temperature is not None else TEMPERATURES[self.loss]

    @property
    def of_teacher(self) -> float:
        """The weight of the teacher's term: alpha of ``kd``, beta of the others."""
        if self.loss == "kd":
            return 0.9 if self.alpha is None else self.alpha
        return BETAS[self.loss] if self.beta is None else self.beta

    @property
    def of_features(self) -> float:
        """The weight of the feature term."""
        if self.features is None:
            return 0.0
        return self.feature_weight if self.feature_weight is not None else FEATURE_WEIGHTS[self.features]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.alpha is not None and self.loss != "kd":
            raise ValueError(f"alpha: got {self.alpha} with loss {self.loss!r}, expected beta: alpha is kd's")
        if self.beta is not None and self.loss == "kd":
            raise ValueError(f"beta: got {self.beta} with loss 'kd', expected alpha: beta is of dkd and dist")
        if self.feature_weight is not None and self.features is None:
            raise ValueError("feature_weight: expected with features")
        mixed = self.augment.mixup > 0 or self.augment.cutmix > 0
        if self.loss == "dkd" and mixed:
            raise ValueError(
                "loss: got 'dkd' with mixup or cutmix, expected plain labels: dkd tells the label's class apart"
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
