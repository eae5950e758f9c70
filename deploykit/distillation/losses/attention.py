"""``attention``: where the layers look."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from deploykit.distillation.losses.shapes import of_one_size


def attention_map(features: Tensor) -> Tensor:
    """Where a layer looks: the mean over channels of the squared activations, flattened and of length 1.

    Zagoruyko & Komodakis 2017, "Paying More Attention to Attention", section 3.1, with p = 2.

    ``features``: ``[N, C, H, W]``. Returns ``[N, H · W]``.
    """
    return functional.normalize(features.pow(2).mean(dim=1).flatten(1), dim=1)


def attention(student: Tensor, teacher: Tensor) -> Tensor:
    """½ · ‖Q_S / ‖Q_S‖ − Q_T / ‖Q_T‖‖², averaged over pictures; between 0 and 1.

    Zagoruyko & Komodakis 2017, equation 2, the norm squared as in the authors' code. Channels may differ; where height
    and width do, the larger map is averaged down to the smaller one.

    ``student``: ``[N, C, H, W]``. ``teacher``: ``[N, C', H', W']``.

    Raises:
        BadInput: outputs that are no maps.
    """
    student, teacher = of_one_size(student, teacher)
    difference = attention_map(student) - attention_map(teacher)
    return 0.5 * difference.pow(2).sum(dim=1).mean()
