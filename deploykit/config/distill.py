"""Configuration of distillation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from deploykit.config.train import LoopConfig

TEMPERATURES = {"kd": 4.0, "dkd": 1.0, "dist": 1.0}
BETAS = {"dkd": 0.5, "dist": 1.0}
FEATURE_WEIGHTS = {"attention": 1.0, "hint": 1.0}


class DistillConfig(LoopConfig):
    """One distillation: the loop's settings, and these.

    Attributes:
        data: a data name; labels of its ``train`` split are used, every choice is made on ``select``.
        teachers: what to learn from, each ``[NAME=]PATH[@TARGET[:key=value,…]]``.
        combine: how several teachers answer as one: mean of their distributions, that mean weighted by what fits
            ``select`` best, or the mean of those that voted with the majority.
        view: what a teacher sees: ``same``: the pictures as augmented for the student; ``clean``: not augmented, made by
            the teacher's own preprocessing and answered once.
        loss: on the logits: ``kd`` (Hinton 2015), ``dkd`` (Zhao 2022) or ``dist`` (Huang 2022).
        temperature: that logits are divided by; None: 4 for ``kd``, 1 for ``dkd`` and ``dist``.
        alpha: of ``kd``: weight of the teacher, 1 − alpha that of the labels; None: 0.9.
        beta: of ``dkd``: weight of the classes that are not the label, None: 0.5; of ``dist``: of both relations, None: 1. The
            papers' values for ImageNet: those for CIFAR (dkd at temperature 4, beta 8) need epochs of warm-up.
        features: also match layers: ``attention`` maps (Zagoruyko 2017) or ``hint`` (Romero 2015); None: not.
        layers: whose outputs are matched, each ``STUDENT=TEACHER``, or one name that both have.
        feature_weight: of their sum; None: 1.
        label_smoothing: 0…1, of the labels' term.
        arch: with a student file: what its tensors are; without one: the network trained from scratch, ``SOURCE:NAME``,
            or ``auto``: a smaller member of the first teacher's family.
        auto_macs: of ``auto``: MACs of the student at most, as a fraction of the teacher's.
        size: input size in pixels of the student, and of teachers that are bare tensors; None: that of the student
            file, else of the first teacher.
        cache: keep what teachers answered for later runs, where that is not much.
        allow_code: ``module:…`` models and data may run.
        skip_broken: leave out pictures that cannot be read, naming them.
    """

    epochs: int = Field(10, ge=1)
    lr: float = Field(0.02, gt=0)
    data: str
    teachers: tuple[str, ...] = Field(min_length=1)
    combine: Literal["average", "weighted", "vote"] = "average"
    view: Literal["same", "clean"] = "same"
    loss: Literal["kd", "dkd", "dist"] = "kd"
    temperature: float | None = Field(None, gt=0)
    alpha: float | None = Field(None, ge=0, le=1)
    beta: float | None = Field(None, ge=0)
    features: Literal["attention", "hint"] | None = None
    layers: tuple[str, ...] = ()
    feature_weight: float | None = Field(None, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    arch: str | None = None
    auto_macs: float = Field(0.5, gt=0, lt=1)
    size: int | None = Field(None, ge=1)
    cache: bool = True
    allow_code: bool = False
    skip_broken: bool = False

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
