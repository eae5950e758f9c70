"""``dist``: how the teacher orders classes and images."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from deploykit.distillation.losses.shapes import check_logits

_SMALL = 1e-8


def term(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, weight: float) -> Tensor:
    """The loss as a step adds it: :func:`dist`, the weight that of both relations."""
    return dist(student, teacher, temperature, weight, weight)


def dist(student: Tensor, teacher: Tensor, temperature: float = 1.0, beta: float = 1.0, gamma: float = 1.0) -> Tensor:
    """T² · (β · inter + γ · intra): correlation in place of equality.

    Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher", equations 7–10: inter is one minus the mean
    Pearson correlation of ``p`` and ``q`` over the classes of each picture, intra that over the pictures of each class.

    ``student``, ``teacher``: logits ``[N, C]``. ``temperature``: T; the factor T² is that of the authors' code.
    ``beta``: of the relation between classes. ``gamma``: of the relation between pictures.

    Raises:
        BadInput: shapes that differ.
    """
    check_logits(student, teacher)
    p, q = (functional.softmax(logits / temperature, dim=1) for logits in (student, teacher))
    inter, intra = 1 - _pearson(p, q).mean(), 1 - _pearson(p.T, q.T).mean()
    return temperature**2 * (beta * inter + gamma * intra)


def _pearson(one: Tensor, other: Tensor) -> Tensor:
    """The correlation of each row: ``[rows]``; 0 where a row is constant."""
    return functional.cosine_similarity(
        one - one.mean(dim=1, keepdim=True), other - other.mean(dim=1, keepdim=True), dim=1, eps=_SMALL
    )
