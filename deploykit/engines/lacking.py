"""What a target lacks on this machine, told before anything is made for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploykit.base.errors import Unavailable
from deploykit.engines.onnxruntime.providers import PROVIDERS, need_provider

if TYPE_CHECKING:
    from deploykit.engines.tensorrt.hardware import Gpu
    from deploykit.engines.tensorrt.version import Api


def lacking(target: str) -> Unavailable | None:
    """Why nothing made for ``target`` can be used here, or None.

    TensorRT-RTX builds without a GPU; where there is one, it must be one of those that the library serves.
    """
    try:
        if target in PROVIDERS:
            need_provider(PROVIDERS[target], target)
        elif target in ("tensorrt", "tensorrt-rtx"):
            from deploykit.engines.tensorrt.hardware import gpu_or_none
            from deploykit.engines.tensorrt.version import load

            _serves(load(target), gpu_or_none())
        elif target == "openvino":
            from deploykit.engines.openvino.load import library

            library()
    except Unavailable as error:
        return error
    return None


def _serves(api: Api, here: Gpu | None) -> None:
    """Refuse a GPU older than the newest that the library names and not among those it names."""
    known = api.compute_capabilities()
    if here is None or not known or here.compute_capability in known:
        return
    if _order(here.compute_capability) < _order(known[-1]):
        raise Unavailable(
            f"{api.flavour.target} has no kernels for this GPU, {here.name}, of compute capability "
            f"{here.compute_capability} (it has them for {', '.join(known)})",
            fix="Use --target tensorrt.",
        )


def _order(capability: str) -> tuple[int, ...]:
    return tuple(map(int, capability.split(".")))
