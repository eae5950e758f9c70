"""Each loss against an independent implementation in numpy, written from the papers' formulas with loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from deploykit.base.errors import BadInput
from deploykit.distillation.losses.attention import attention, attention_map
from deploykit.distillation.losses.dist import dist
from deploykit.distillation.losses.dkd import dkd
from deploykit.distillation.losses.hint import hint
from deploykit.distillation.losses.kd import kd

RNG = np.random.default_rng(0)
STUDENT, TEACHER = 3 * RNG.normal(size=(7, 5)), 3 * RNG.normal(size=(7, 5))
LABELS = np.array([0, 1, 2, 3, 4, 0, 3])


def softmax(row: np.ndarray, temperature: float) -> np.ndarray:
    exponential = [math.exp(value / temperature) for value in row]
    return np.array(exponential) / sum(exponential)


def divergence(q: np.ndarray, p: np.ndarray) -> float:
    return sum(one * (math.log(one) - math.log(other)) for one, other in zip(q, p, strict=True))


def numpy_kd(temperature: float) -> float:
    rows = [divergence(softmax(t, temperature), softmax(s, temperature)) for s, t in zip(STUDENT, TEACHER, strict=True)]
    return temperature**2 * sum(rows) / len(rows)


def numpy_dkd(temperature: float, alpha: float, beta: float) -> float:
    total = 0.0
    for s, t, label in zip(STUDENT, TEACHER, LABELS, strict=True):
        p, q = softmax(s, temperature), softmax(t, temperature)
        two_p, two_q = np.array([p[label], 1 - p[label]]), np.array([q[label], 1 - q[label]])
        rest_p, rest_q = np.delete(p, label) / (1 - p[label]), np.delete(q, label) / (1 - q[label])
        total += alpha * divergence(two_q, two_p) + beta * divergence(rest_q, rest_p)
    return temperature**2 * total / len(STUDENT)


def numpy_dist(temperature: float, beta: float, gamma: float) -> float:
    p = np.array([softmax(row, temperature) for row in STUDENT])
    q = np.array([softmax(row, temperature) for row in TEACHER])
    inter = 1 - np.mean([np.corrcoef(p[i], q[i])[0, 1] for i in range(len(p))])
    intra = 1 - np.mean([np.corrcoef(p[:, c], q[:, c])[0, 1] for c in range(p.shape[1])])
    return temperature**2 * (beta * inter + gamma * intra)


def tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.from_numpy(STUDENT).requires_grad_(), torch.from_numpy(TEACHER), torch.from_numpy(LABELS)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_golden_values(temperature: float) -> None:
    student, teacher, labels = tensors()
    assert kd(student, teacher, temperature).item() == pytest.approx(numpy_kd(temperature), rel=1e-10)
    assert dkd(student, teacher, labels, temperature, 1.5, 8.0).item() == pytest.approx(
        numpy_dkd(temperature, 1.5, 8.0), rel=1e-10
    )
    assert dist(student, teacher, temperature, 2.0, 3.0).item() == pytest.approx(
        numpy_dist(temperature, 2.0, 3.0), rel=1e-8
    )


def test_kd_is_dkd_with_the_teachers_own_weight() -> None:
    """Zhao et al. 2022, equation 6: KD = TCKD + (1 − q of the label) · NCKD, picture by picture."""
    student, teacher, labels = tensors()
    for i in range(len(student)):
        one, other, label = student[i : i + 1], teacher[i : i + 1], labels[i : i + 1]
        rest = 1 - torch.softmax(other / 4, dim=1)[0, label[0]].item()
        whole = dkd(one, other, label, 4.0, 1.0, rest).item()
        assert kd(one, other, 4.0).item() == pytest.approx(whole, rel=1e-9)


def test_equal_logits_cost_nothing_and_dist_forgives_what_is_linear() -> None:
    _, teacher, labels = tensors()
    for loss in (kd(teacher, teacher), dkd(teacher, teacher, labels), dist(teacher, teacher)):
        assert loss.item() == pytest.approx(0, abs=1e-9)
    p = torch.softmax(teacher, dim=1)
    halfway = (0.5 * p + 0.5 / p.shape[1]).log()
    assert dist(halfway, teacher).item() == pytest.approx(0, abs=1e-9)
    assert kd(halfway, teacher, 1.0).item() > 0.01


def test_the_gradient_of_kd_does_not_vanish_with_the_temperature() -> None:
    """Hinton et al. 2015, section 2: gradients of the soft term scale as 1/T², which the factor undoes."""
    sizes = []
    for temperature in (10.0, 100.0):
        student, teacher, _ = tensors()
        kd(student, teacher, temperature).backward()
        assert student.grad is not None
        sizes.append(student.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.2)


def test_losses_stay_finite_on_extreme_logits() -> None:
    student = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    teacher = torch.tensor([[-1e4, 1e4, 0.0]])
    label = torch.tensor([1])
    for loss in (kd(student, teacher), dkd(student, teacher, label), dist(student, teacher)):
        assert torch.isfinite(loss)
        loss.backward(retain_graph=True)
        assert torch.isfinite(student.grad).all()


def test_dkd_wants_plain_labels() -> None:
    student, teacher, _ = tensors()
    with pytest.raises(BadInput, match=r"dkd needs one label per picture; got labels of shape \[7, 5\]"):
        dkd(student, teacher, torch.zeros(7, 5))
    with pytest.raises(BadInput, match="dkd needs two classes at least"):
        dkd(student[:, :1], teacher[:, :1], torch.zeros(7, dtype=torch.int64))


def test_logits_that_do_not_fit() -> None:
    with pytest.raises(BadInput, match=r"do not fit; got \[7, 5\] and \[7, 4\]; expected \[N, C\] both"):
        kd(torch.zeros(7, 5), torch.zeros(7, 4))


def numpy_attention(student: np.ndarray, teacher: np.ndarray) -> float:
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        one, other = (s**2).sum(axis=0).ravel(), (t**2).sum(axis=0).ravel()
        one, other = one / np.linalg.norm(one), other / np.linalg.norm(other)
        total += 0.5 * np.linalg.norm(one - other) ** 2
    return total / len(student)


def test_attention_and_hint() -> None:
    student, teacher = RNG.normal(size=(3, 4, 6, 6)), RNG.normal(size=(3, 9, 6, 6))
    one, other = torch.from_numpy(student), torch.from_numpy(teacher)
    assert attention(one, other).item() == pytest.approx(numpy_attention(student, teacher), rel=1e-10)
    assert torch.allclose(attention_map(one).norm(dim=1), torch.ones(3, dtype=torch.float64))
    assert attention(one, 5 * one).item() == pytest.approx(0, abs=1e-12)
    fitted = RNG.normal(size=(3, 9, 6, 6))
    expected = 0.5 * ((fitted - teacher) ** 2).mean() / (teacher**2).mean()
    assert hint(torch.from_numpy(fitted), other).item() == pytest.approx(expected, rel=1e-10)
    vectors = torch.from_numpy(RNG.normal(size=(3, 9)))
    assert hint(2 * vectors, vectors).item() == pytest.approx(0.5)


def test_the_larger_map_is_averaged_down() -> None:
    small, large = RNG.normal(size=(2, 4, 3, 3)), RNG.normal(size=(2, 4, 6, 6))
    averaged = large.reshape(2, 4, 3, 2, 3, 2).mean(axis=(3, 5))
    one, other = torch.from_numpy(small), torch.from_numpy(large)
    assert attention(one, other).item() == pytest.approx(numpy_attention(small, averaged), rel=1e-10)
    assert attention(other, one).item() == pytest.approx(numpy_attention(averaged, small), rel=1e-10)


def test_layers_that_cannot_be_compared() -> None:
    with pytest.raises(BadInput, match=r"attention is compared between maps; got outputs of shape \[2, 4\]"):
        attention(torch.zeros(2, 4), torch.zeros(2, 4))
    with pytest.raises(BadInput, match=r"the hint's layers do not fit"):
        hint(torch.zeros(2, 4), torch.zeros(2, 5))
