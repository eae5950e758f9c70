"""What a target lacks on this machine, told before anything is made for it."""

from __future__ import annotations

from deploykit.base.errors import Unavailable
from deploykit.engines.onnxruntime.providers import PROVIDERS, need_provider


def lacking(target: str) -> Unavailable | None:
    """Why nothing made for ``target`` can be used here, or None.

    Of TensorRT it is asked only whether its library loads: TensorRT-RTX builds without a GPU, and a build tells the rest.
    """
    try:
        if target in PROVIDERS:
            need_provider(PROVIDERS[target], target)
        elif target in ("tensorrt", "tensorrt-rtx"):
            from deploykit.engines.tensorrt.flavour import load

            load(target)
        elif target == "openvino":
            from deploykit.engines.openvino.loading import library

            library()
    except Unavailable as error:
        return error
    return None
