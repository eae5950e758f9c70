import numpy as np
import pytest
import torch

from deploykit.quantization.qat.layer import bounds_of, fake, grown, weight_limits
from deploykit.quantization.schemes import S8, U8, affine


def composed(x, step, low, high, features):
    """LSQ as its paper writes it, gradients left to autograd."""
    share = (features * high) ** -0.5
    step = (step - step * share).detach() + step * share
    exact = (x / step).clamp(low, high)
    return (exact + (exact.round() - exact).detach()) * step


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(), (3, 1, 1)])
def test_gradients_are_those_of_lsq(layout, shape):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=layout).requires_grad_()
    step = torch.full(shape, 0.02).requires_grad_()
    weight = torch.randn(2, 3, 4, 5).contiguous(memory_format=layout)
    mine, right = fake(x, step, -40, 60, 20), composed(x, step, -40, 60, 20)
    torch.testing.assert_close(mine, right)
    for one, other in zip(
        torch.autograd.grad((mine * weight).sum(), (x, step)),
        torch.autograd.grad((right * weight).sum(), (x, step)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
        assert bool(one.any())


@pytest.mark.parametrize("scheme", [U8, S8])
def test_values_are_those_of_quantize_linear(scheme):
    made = affine(-1.3, 2.0, scheme)
    x = np.linspace(-3, 3, 1001, dtype=np.float32)
    mine = fake(torch.from_numpy(x), torch.tensor(made.scale), *bounds_of(made), 1001).numpy()
    np.testing.assert_allclose(mine, made.dequantize(made.quantize(x)), atol=1e-6)


def test_steps_start_where_they_are_told_and_stay_positive():
    start = torch.tensor([0.1, 2.0])
    assert torch.equal(grown(start, torch.zeros(2)), start)
    assert bool((grown(start, torch.full((2,), -1.0)) > 0).all())


def test_few_bits_clip_the_largest_weights_where_that_is_nearer():
    random = np.random.default_rng(0)
    weight = random.normal(size=(4, 200)).astype(np.float32)
    weight[1] *= 30.0
    weight[3] = 0.0
    eight, four = weight_limits(weight, 0, 8), weight_limits(weight, 0, 4)
    np.testing.assert_allclose(eight[:3], np.abs(weight[:3]).max(1), rtol=1e-5)
    assert eight[3] > 0

    def errors(limits):
        step = limits[:3, None] / 7
        return ((np.clip(np.rint(weight[:3] / step), -7, 7) * step - weight[:3]) ** 2).sum(1)

    assert (errors(four) < 0.9 * errors(eight)).all()
    turned = weight_limits(np.ascontiguousarray(weight.T), 1, 4)
    np.testing.assert_array_equal(turned, four)
