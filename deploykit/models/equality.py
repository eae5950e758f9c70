"""Whether two architectures with the same tensors compute the same function: seeded weights, seeded picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def equal_outputs(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two logits differ by rounding only; what could not be computed equals nothing."""
    if one is None or other is None or one.shape != other.shape:
        return False
    return bool((one - other).abs().max() <= 1e-4 * one.abs().max())


def seeded_output(module: nn.Module, size: tuple[int, int]) -> Tensor | None:
    """The logits ``[1, C]`` of a network, its weights overwritten by seeded ones, on one seeded picture of ``size``.

    The picture's values go far beyond those of a normalised one, so that clamps (ReLU6) act. None where the network
    does not run at this size.
    """
    seed_weights(module)
    x = 3 * torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    try:
        with torch.no_grad():
            return module.eval()(x)
    except (RuntimeError, AssertionError, ValueError):
        return None


def seed_weights(module: nn.Module) -> None:
    """Overwrite every tensor by values that depend on its name's place only, large enough that activations differ."""
    generator = torch.Generator().manual_seed(0)
    state = module.state_dict()
    for name in sorted(state):
        tensor = state[name]
        if not tensor.is_floating_point():
            continue
        noise = torch.empty(tensor.shape).uniform_(-1, 1, generator=generator)
        if tensor.ndim < 2:
            tensor.copy_(noise * 0.5 + (1 if name.endswith(("weight", "running_var", "gamma")) else 0))
        else:
            tensor.copy_(noise * (3 * 2 / max(1, tensor[0].numel())) ** 0.5)


@contextmanager
def without_initialisation() -> Iterator[None]:
    """Make ``torch.nn.init`` leave tensors alone: the weights are overwritten anyway."""
    names = [name for name in vars(nn.init) if name.endswith("_") and not name.startswith("_")]
    kept = {name: getattr(nn.init, name) for name in names}
    for name in names:
        setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(nn.init, name, function)
