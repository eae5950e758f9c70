"""The student's step: from a batch, as the teachers see it too, to the loss that labels, teachers and layers make together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.config.distill import DistillConfig
from deploykit.config.registries import FEATURE_LOSSES, LOSSES
from deploykit.training.step import Step, cross_entropy, outputs_of

Answer = Callable[[Tensor], tuple[Tensor, list[Tensor]]]
LogitTerm = Callable[[Tensor, Tensor, Tensor, float, float], Tensor]
"""From the logits ``[N, C]`` of student and teacher, labels, temperature and weight to the term of the loss, a scalar."""
FeatureTerm = Callable[[Tensor, Tensor], Tensor]
"""From the outputs of a layer of the student and one of the teacher to a scalar."""


def distill_step(teachers: Answer, config: DistillConfig) -> Step:
    """``step(module, x, y) -> loss``.

    ``kd``: (1 − α) · CE + α · KD; ``dkd``: CE + DKD; ``dist``: CE + DIST, as their papers weigh them; with features the
    weighted mean of the layers' losses is added. CE is the cross-entropy with the labels, label smoothing and auxiliary
    heads as in plain training.

    ``teachers``: from the student's input to logits ``[N, C]`` and layer outputs, without gradients.
    """
    term: LogitTerm = LOSSES.load(config.loss)
    matched: FeatureTerm | None = None if config.features is None else FEATURE_LOSSES.load(config.features)
    temperature, weight = config.at_temperature, config.of_teacher
    label_weight = 1 - weight if LOSSES[config.loss].weighed_by == "alpha" else 1.0

    def step(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        target, wanted = teachers(x)
        given = module(x)
        features: list[Tensor] = []
        if matched is not None:
            given, features = given
        logits, auxiliary = outputs_of(given)
        loss = term(logits.float(), target, y, temperature, weight)
        if label_weight:
            loss = loss + label_weight * cross_entropy(logits, auxiliary, y, config.label_smoothing)
        if matched is not None and features:
            terms = [matched(mine.float(), its.float()) for mine, its in zip(features, wanted, strict=True)]
            loss = loss + config.of_features * sum(terms, start=loss.new_zeros(())) / len(terms)
        return loss

    return step


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
    if student.channels != teacher.channels:
        raise BadInput(
            f"{name} takes images of {teacher.channels} channels, the student of {student.channels}",
            fix="Use --view clean, where each prepares the image in its own way.",
        )
    plain = not teacher.embedded and teacher.layout == "NCHW"
    if plain and (student.mean, student.std) == (teacher.mean, teacher.std):
        return lambda x: x

    def change(x: Tensor) -> Tensor:
        mean, std = _column(student.mean, x), _column(student.std, x)
        pixels = x * std + mean
        if teacher.embedded:
            pixels = (pixels * 255).round().clamp(0, 255).to(torch.uint8)
        else:
            pixels = (pixels - _column(teacher.mean, x)) / _column(teacher.std, x)
        return pixels if teacher.layout == "NCHW" else pixels.permute(0, 2, 3, 1).contiguous()

    return change


def _column(values: tuple[float, ...], x: Tensor) -> Tensor:
    return x.new_tensor(values).view(1, -1, 1, 1)
