"""``dkd``: the label's share of the distribution and the division of the rest, apart."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from deploykit.base.errors import BadInput
from deploykit.distillation.losses.shapes import check_logits


def term(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, weight: float) -> Tensor:
    """The loss as a step adds it: :func:`dkd`, the weight that of the other classes."""
    return dkd(student, teacher, labels, temperature, beta=weight)


def dkd(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 1.0, alpha: float = 1.0, beta: float = 0.5
) -> Tensor:
    """T² · (α · TCKD + β · NCKD): the label's share of the probability, and how the rest is divided, apart.

    Zhao et al. 2022, "Decoupled Knowledge Distillation", equation 7: TCKD is the KL divergence between the two-way
    distributions (label, not label), NCKD that between the distributions over the other classes alone.

    ``student``, ``teacher``: logits ``[N, C]``. ``labels``: int64 ``[N]``. ``temperature``: T. ``alpha``: of the
    label's share. ``beta``: of the other classes; the paper uses 0.5 at T = 1 on ImageNet, and 8 at T = 4 on CIFAR-100,
    where the whole term is warmed up over 20 epochs: without that, such weights throw a trained student far off.

    Raises:
        BadInput: shapes that differ, labels that are mixed, or fewer than two classes.
    """
    check_logits(student, teacher)
    if labels.ndim != 1 or labels.is_floating_point():
        raise BadInput(
            "dkd needs one label per picture", got=f"labels of shape {list(labels.shape)}", expected="int64 [N]"
        )
    if student.shape[1] < 2:
        raise BadInput("dkd needs two classes at least", got=student.shape[1])
    log_p, log_q = (functional.log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    label = functional.one_hot(labels, student.shape[1]).bool()
    two_p, two_q = (_two_way(log, label) for log in (log_p, log_q))
    target = functional.kl_div(two_p, two_q, reduction="batchmean", log_target=True)
    rest_p, rest_q = (functional.log_softmax(_others(log, label), dim=1) for log in (log_p, log_q))
    others = functional.kl_div(rest_p, rest_q, reduction="batchmean", log_target=True)
    return temperature**2 * (alpha * target + beta * others)


def _two_way(log: Tensor, label: Tensor) -> Tensor:
    """Log of (probability of the label, of all others): ``[N, 2]``."""
    return torch.stack([log[label], torch.logsumexp(_others(log, label), dim=1)], dim=1)


def _others(log: Tensor, label: Tensor) -> Tensor:
    """The entries that are not the label's: ``[N, C − 1]``."""
    return log[~label].view(len(log), -1)
