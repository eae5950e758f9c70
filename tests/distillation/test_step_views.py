from __future__ import annotations

import numpy as np
import pytest
import torch

from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.data import prepare
from deploykit.distillation.distillation_step import view_of

STUDENT = Preprocessing((8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def test_the_teacher_gets_what_its_own_preprocessing_makes() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    x = torch.from_numpy(prepare(images, STUDENT))
    other = Preprocessing((8, 8), mean=(0.1, 0.2, 0.6), std=(0.5, 0.1, 0.2))
    assert np.allclose(view_of(STUDENT, other, "t")(x).numpy(), prepare(images, other), atol=1e-5)
    inside = Preprocessing((8, 8), embedded=True)
    assert np.array_equal(view_of(STUDENT, inside, "t")(x).numpy(), images)
    assert view_of(STUDENT, STUDENT, "t")(x) is x


def test_another_size_has_no_same_view() -> None:
    with pytest.raises(BadInput, match=r"t sees pictures of another size .* got 16×16 and 8×8 pixels.*--view clean"):
        view_of(STUDENT, Preprocessing((16, 16)), "t")
