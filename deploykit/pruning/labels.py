"""Label tensors: the unit of every element of an activation, kept as small as broadcasting allows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor


def expanded(labels: Tensor, shape: Sequence[int]) -> Tensor:
    """``labels`` as a view of the full shape."""
    return labels.expand(tuple(shape))


def compressed(labels: Tensor) -> Tensor:
    """``labels`` with every dimension along which they are constant cut to 1."""
    for dim, extent in enumerate(labels.shape):
        if extent > 1:
            first = labels.narrow(dim, 0, 1)
            if labels.stride(dim) == 0 or bool((labels == first).all()):
                labels = first
    return labels


def constant_along(labels: Tensor, dims: Iterable[int]) -> bool:
    """Whether compressed labels do not vary along ``dims``."""
    return all(labels.shape[dim] <= 1 for dim in dims)
