"""From the student's input to the teacher's, where both shall see the same picture."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing

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
