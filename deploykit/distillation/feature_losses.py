"""Losses between layers of a student and of a teacher, as pure functions."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from deploykit.base.errors import BadInput


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
