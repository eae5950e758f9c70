"""Losses between the logits of a student and of a teacher, as pure functions.

All take float logits ``[N, C]``, give a scalar tensor and let gradients flow to the student only where the caller
detached the teacher. ``p`` is softmax(student / T), ``q`` is softmax(teacher / T).

Losses between layers of a student and of a teacher, as pure functions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from deploykit.base.errors import BadInput

_SMALL = 1e-8


def kd(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """T² · KL(q ‖ p), summed over classes and averaged over pictures.

    Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network", section 2, equation 1 and the factor T²
    of section 2.1's gradient, so that the weight of the term does not depend on T.

    Args:
        student: logits ``[N, C]``.
        teacher: logits ``[N, C]``.
        temperature: T.

    Raises:
        BadInput: shapes that differ.
    """
    _check(student, teacher)
    log_p = functional.log_softmax(student / temperature, dim=1)
    log_q = functional.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * functional.kl_div(log_p, log_q, reduction="batchmean", log_target=True)


def dkd(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 1.0, alpha: float = 1.0, beta: float = 0.5
) -> Tensor:
    """T² · (α · TCKD + β · NCKD): the label's share of the probability, and how the rest is divided, apart.

    Zhao et al. 2022, "Decoupled Knowledge Distillation", equation 7: TCKD is the KL divergence between the two-way
    distributions (label, not label), NCKD that between the distributions over the other classes alone.

    Args:
        student: logits ``[N, C]``.
        teacher: logits ``[N, C]``.
        labels: int64 ``[N]``.
        temperature: T.
        alpha: of the label's share.
        beta: of the other classes; the paper uses 0.5 at T = 1 on ImageNet, and 8 at T = 4 on CIFAR-100, where the whole
            term is warmed up over 20 epochs: without that, such weights throw a trained student far off.

    Raises:
        BadInput: shapes that differ, labels that are mixed, or fewer than two classes.
    """
    _check(student, teacher)
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


def dist(student: Tensor, teacher: Tensor, temperature: float = 1.0, beta: float = 1.0, gamma: float = 1.0) -> Tensor:
    """T² · (β · inter + γ · intra): correlation in place of equality.

    Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher", equations 7–10: inter is one minus the mean
    Pearson correlation of ``p`` and ``q`` over the classes of each picture, intra that over the pictures of each class.

    Args:
        student: logits ``[N, C]``.
        teacher: logits ``[N, C]``.
        temperature: T; the factor T² is that of the authors' code.
        beta: of the relation between classes.
        gamma: of the relation between pictures.

    Raises:
        BadInput: shapes that differ.
    """
    _check(student, teacher)
    p, q = (functional.softmax(logits / temperature, dim=1) for logits in (student, teacher))
    inter, intra = 1 - _pearson(p, q).mean(), 1 - _pearson(p.T, q.T).mean()
    return temperature**2 * (beta * inter + gamma * intra)


def _pearson(one: Tensor, other: Tensor) -> Tensor:
    """The correlation of each row: ``[rows]``; 0 where a row is constant."""
    return functional.cosine_similarity(
        one - one.mean(dim=1, keepdim=True), other - other.mean(dim=1, keepdim=True), dim=1, eps=_SMALL
    )


def _check(student: Tensor, teacher: Tensor) -> None:
    if student.ndim != 2 or student.shape != teacher.shape:
        raise BadInput(
            "the logits of student and teacher do not fit",
            got=f"{list(student.shape)} and {list(teacher.shape)}",
            expected="[N, C] both",
        )


def attention_map(features: Tensor) -> Tensor:
    """Where a layer looks: the mean over channels of the squared activations, flattened and of length 1.

    Zagoruyko & Komodakis 2017, "Paying More Attention to Attention", section 3.1, with p = 2.

    Args:
        features: ``[N, C, H, W]``.

    Returns:
        ``[N, H · W]``.
    """
    return functional.normalize(features.pow(2).mean(dim=1).flatten(1), dim=1)


def attention(student: Tensor, teacher: Tensor) -> Tensor:
    """½ · ‖Q_S / ‖Q_S‖ − Q_T / ‖Q_T‖‖², averaged over pictures; between 0 and 1.

    Zagoruyko & Komodakis 2017, equation 2, the norm squared as in the authors' code. Channels may differ; where height
    and width do, the larger map is averaged down to the smaller one.

    Args:
        student: ``[N, C, H, W]``.
        teacher: ``[N, C', H', W']``.

    Raises:
        BadInput: outputs that are no maps.
    """
    student, teacher = _of_one_size(student, teacher)
    difference = attention_map(student) - attention_map(teacher)
    return 0.5 * difference.pow(2).sum(dim=1).mean()


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """½ · ‖T − r(S)‖² per element, relative to the teacher's own mean square.

    Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", equation 3. The division makes the weight of the term mean
    the same for layers of any scale.

    Args:
        student: ``[N, C, H, W]`` or ``[N, D]``, already projected to the teacher's channels by the learned regressor r.
        teacher: ``[N, C, H', W']`` or ``[N, D]``; the larger of two maps is averaged down to the smaller one.

    Raises:
        BadInput: numbers of channels that differ.
    """
    if student.ndim == 4 and teacher.ndim == 4:
        student, teacher = _of_one_size(student, teacher)
    if student.shape != teacher.shape:
        raise BadInput("the hint's layers do not fit", got=f"{list(student.shape)} and {list(teacher.shape)}")
    return 0.5 * (student - teacher).pow(2).mean() / teacher.pow(2).mean().clamp_min(1e-12)


def _of_one_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    if student.ndim != 4 or teacher.ndim != 4:
        raise BadInput(
            "attention is compared between maps",
            got=f"outputs of shape {list(student.shape)} and {list(teacher.shape)}",
            expected="[N, C, H, W]",
            fix="Name convolutional layers, or use features hint.",
        )
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    small, large = (
        one if tuple(one.shape[2:]) == size else functional.adaptive_avg_pool2d(one, size) for one in (student, teacher)
    )
    return small, large
