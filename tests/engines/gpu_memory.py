"""How much memory of the GPU nobody uses, by the driver."""

from __future__ import annotations

import ctypes

from deploykit.engines.tensorrt.cuda import Cuda


def free_bytes(cuda: Cuda) -> int:
    """Free memory of the GPU of ``cuda``."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    cuda._do("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return free.value
