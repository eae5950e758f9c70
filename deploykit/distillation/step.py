"""The student's step: from a batch to the loss that labels, teachers and layers make together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from deploykit.config.distill import DistillConfig
from deploykit.distillation.feature_losses import attention, hint
from deploykit.distillation.losses import dist, dkd, kd
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
