"""What is compared must be of one shape."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from deploykit.base.errors import BadInput


def check_logits(student: Tensor, teacher: Tensor) -> None:
    """Refuse logits that are not ``[N, C]`` both.

    Raises:
        BadInput: shapes that differ.
    """
    if student.ndim != 2 or student.shape != teacher.shape:
        raise BadInput(
            "the logits of student and teacher do not fit",
            got=f"{list(student.shape)} and {list(teacher.shape)}",
            expected="[N, C] both",
        )


def of_one_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps, the larger averaged down to the smaller one.

    Raises:
        BadInput: they are no maps.
    """
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
