"""``hint``: what the layers give."""

from __future__ import annotations

from torch import Tensor

from deploykit.base.errors import BadInput
from deploykit.distillation.losses.shapes import of_one_size


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """½ · ‖T − r(S)‖² per element, relative to the teacher's own mean square.

    Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", equation 3. The division makes the weight of the term mean
    the same for layers of any scale.

    ``student``: ``[N, C, H, W]`` or ``[N, D]``, already projected to the teacher's channels by the learned regressor r.
    ``teacher``: ``[N, C, H', W']`` or ``[N, D]``; the larger of two maps is averaged down to the smaller one.

    Raises:
        BadInput: numbers of channels that differ.
    """
    if student.ndim == 4 and teacher.ndim == 4:
        student, teacher = of_one_size(student, teacher)
    if student.shape != teacher.shape:
        raise BadInput("the hint's layers do not fit", got=f"{list(student.shape)} and {list(teacher.shape)}")
    return 0.5 * (student - teacher).pow(2).mean() / teacher.pow(2).mean().clamp_min(1e-12)
