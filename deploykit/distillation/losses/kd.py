"""``kd``: the teacher's distribution, softened."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from deploykit.distillation.losses.shapes import check_logits


def term(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, weight: float) -> Tensor:
    """The loss as a step adds it: :func:`kd`, weighted."""
    return weight * kd(student, teacher, temperature)


def kd(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """T² · KL(q ‖ p), summed over classes and averaged over pictures.

    Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network", section 2, equation 1 and the factor T²
    of section 2.1's gradient, so that the weight of the term does not depend on T.

    ``student``, ``teacher``: logits ``[N, C]``. ``temperature``: T.

    Raises:
        BadInput: shapes that differ.
    """
    check_logits(student, teacher)
    log_p = functional.log_softmax(student / temperature, dim=1)
    log_q = functional.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * functional.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
