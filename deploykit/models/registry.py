"""The register of deploykit's own networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from deploykit.base.errors import unknown

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])

_NETS: dict[str, Callable[..., nn.Module]] = {}


def register(name: str) -> Callable[[Builder], Builder]:
    """Enter a builder ``f(num_classes=…, **kwargs) -> Module`` under ``deploykit:NAME``.

    Raises:
        ValueError: the name is taken.
    """

    def enter(builder: Builder) -> Builder:
        if name in _NETS:
            raise ValueError(f"the network name {name!r} is registered twice")
        _NETS[name] = builder
        return builder

    return enter


def lookup(name: str) -> Callable[..., nn.Module]:
    """The builder of ``deploykit:NAME``.

    Raises:
        BadInput: not known; lists what is, and the nearest.
    """
    if name not in _NETS:
        raise unknown("deploykit network", name, sorted(_NETS))
    return _NETS[name]


def registered() -> list[str]:
    """All registered names, sorted."""
    return sorted(_NETS)
