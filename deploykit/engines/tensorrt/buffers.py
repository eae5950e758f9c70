"""Pinned host and device memory of an engine's tensors: allocated once, grown only for a larger batch."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from deploykit.engines.tensorrt.cuda import Cuda

NUMPY = {"bfloat16": "uint16", "fp8": "uint8"}


def itemsize(dtype: str) -> int:
    """Bytes of one element, by the name that a :class:`~deploykit.base.runner.TensorSpec` has."""
    return np.dtype(NUMPY.get(dtype, dtype)).itemsize


class Buffer:
    """The memory of one tensor, on both sides."""

    def __init__(self, cuda: Cuda, dtype: str) -> None:
        self._cuda, self.dtype = cuda, dtype
        self.device, self.host, self.capacity = 0, 0, 0
        self.shape: tuple[int, ...] = ()
        self.array: np.ndarray[Any, Any] = np.empty(0)

    def fit(self, shape: tuple[int, ...]) -> bool:
        """Make room for ``shape``; True where the memory moved, so that recorded graphs no longer hold."""
        size = math.prod(shape) * itemsize(self.dtype)
        moved = size > self.capacity or not self.device
        if moved:
            self.release()
            self.device = self._cuda.allocate(size)
            self.host = self._cuda.allocate_host(size)
            self.capacity = max(size, 1)
        if moved or shape != self.shape:
            self.shape = shape
            kind = np.dtype(NUMPY.get(self.dtype, self.dtype))
            raw = (ctypes.c_byte * max(size, 1)).from_address(self.host)
            self.array = np.ctypeslib.as_array(raw)[:size].view(kind).reshape(shape)
        return moved

    @property
    def size(self) -> int:
        """Bytes of the present shape."""
        return math.prod(self.shape) * itemsize(self.dtype)

    def upload(self) -> None:
        """Host to device, on the stream."""
        self._cuda.to_device(self.device, self.host, self.size)

    def download(self) -> None:
        """Device to host, on the stream."""
        self._cuda.to_host(self.host, self.device, self.size)

    def read(self) -> np.ndarray:
        """A new array of the host's side; floating values as float32."""
        if self.dtype == "bfloat16":
            return (self.array.astype(np.uint32) << 16).view(np.float32)
        return self.array.astype(np.float32) if self.array.dtype.kind == "f" else self.array.copy()

    def release(self) -> None:
        """Give the memory back."""
        self.array = np.empty(0)
        if self.device:
            self._cuda.free(self.device)
        if self.host:
            self._cuda.free_host(self.host)
        self.device, self.host, self.capacity = 0, 0, 0
