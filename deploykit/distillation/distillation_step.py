"""The student's step: from a batch to the loss that labels, teachers and layers make together.

From the student's input to the teacher's, where both shall see the same picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.config.distill import DistillConfig
from deploykit.distillation.losses import attention, dist, dkd, hint, kd
from deploykit.training.step import Step, cross_entropy, outputs_of

Answer = Callable[[Tensor], tuple[Tensor, list[Tensor]]]


def distill_step(teachers: Answer, config: DistillConfig) -> Step:
    """``step(module, x, y) -> loss``.

    ``kd``: (1 − α) · CE + α · KD; ``dkd``: CE + DKD; ``dist``: CE + DIST, as their papers weigh them; with features the
    weighted mean of the layers' losses is added. CE is the cross-entropy with the labels, label smoothing and auxiliary
    heads as in plain training.

    Args:
        teachers: from the student's input to logits ``[N, C]`` and layer outputs, without gradients.
        config: losses and weights.
    """
    label_weight = 1 - config.of_teacher if config.loss == "kd" else 1.0

    def step(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        target, wanted = teachers(x)
        given = module(x)
        features: list[Tensor] = []
        if config.features is not None:
            given, features = given
        logits, auxiliary = outputs_of(given)
        loss = _of_logits(logits.float(), target, y, config)
        if label_weight:
            loss = loss + label_weight * cross_entropy(logits, auxiliary, y, config.label_smoothing)
        if features:
            matched = attention if config.features == "attention" else hint
            terms = [matched(mine.float(), its.float()) for mine, its in zip(features, wanted, strict=True)]
            loss = loss + config.of_features * sum(terms, start=loss.new_zeros(())) / len(terms)
        return loss

    return step


def _of_logits(logits: Tensor, target: Tensor, y: Any, config: DistillConfig) -> Tensor:
    temperature, weight = config.at_temperature, config.of_teacher
    if config.loss == "dkd":
        return dkd(logits, target, y, temperature, beta=weight)
    if config.loss == "dist":
        return dist(logits, target, temperature, weight, weight)
    return weight * kd(logits, target, temperature)


View = Callable[[Tensor], Tensor]


def view_of(student: Preprocessing, teacher: Preprocessing, name: str) -> View:
    """What turns a batch made for the student (float ``[N, 3, H, W]``, normalised) into the teacher's input.

    The normalisation is taken back and made anew where the two differ; a teacher with its preprocessing inside gets
    uint8 ``[N, H, W, 3]``.

    Raises:
        BadInput: the teacher's input has another size: the same view does not exist at two.
    """
    if student.size != teacher.size:
        raise BadInput(
            f"{name} sees pictures of another size than the student",
            got=f"{teacher.size[0]}×{teacher.size[1]} and {student.size[0]}×{student.size[1]} pixels",
            expected="the same size for the same view",
            fix="Use --view clean, where each prepares the picture in its own way, or --size.",
        )
    if not teacher.embedded and (student.mean, student.std) == (teacher.mean, teacher.std):
        return _unchanged

    def change(x: Tensor) -> Tensor:
        mean, std = _column(student.mean, x), _column(student.std, x)
        pixels = x * std + mean
        if teacher.embedded:
            return (pixels * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        return (pixels - _column(teacher.mean, x)) / _column(teacher.std, x)

    return change


def _unchanged(x: Tensor) -> Tensor:
    return x


def _column(values: tuple[float, ...], x: Tensor) -> Tensor:
    return x.new_tensor(values).view(1, 3, 1, 1)
