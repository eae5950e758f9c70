"""What a runner needs of CUDA, through the driver's library alone: no torch, no package of bindings.

The driver API is in every driver, its entry points of these versions are stable, and the device's primary context is the
one that PyTorch and TensorRT use too, so that their memory and streams mix.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_float, c_int, c_size_t, c_uint, c_void_p
from typing import Any

from deploykit.base.errors import AnswerNo, DeploykitError, Unavailable
from deploykit.engines.tensorrt.hardware import driver

OUT_OF_MEMORY = 2
_NON_BLOCKING = 1
_RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED
_EVENT_DEFAULT = 0


class Cuda:
    """One GPU's primary context, with memory, a stream and graphs. Close it last.

    Every call must be made in a thread for which :meth:`use` was called.
    """

    def __init__(self, device: int) -> None:
        self._library, self._device = driver(), c_int()
        self._do("cuDeviceGet", ctypes.byref(self._device), c_int(device))
        self._context = c_void_p()
        self._do("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        stream = c_void_p()
        try:
            self.use()
            self._do("cuStreamCreate", ctypes.byref(stream), c_uint(_NON_BLOCKING))
        except BaseException:
            self._do("cuDevicePrimaryCtxRelease_v2", self._device)
            raise
        self.stream: int = stream.value or 0

    def use(self) -> None:
        """Make the context this thread's."""
        self._do("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        """Device memory of ``size`` bytes; its address."""
        place = c_void_p()
        self._do("cuMemAlloc_v2", ctypes.byref(place), c_size_t(max(size, 1)))
        return place.value or 0

    def free(self, place: int) -> None:
        """Give device memory back."""
        self._do("cuMemFree_v2", c_void_p(place))

    def allocate_host(self, size: int) -> int:
        """Pinned host memory of ``size`` bytes; its address."""
        place = c_void_p()
        self._do("cuMemAllocHost_v2", ctypes.byref(place), c_size_t(max(size, 1)))
        return place.value or 0

    def free_host(self, place: int) -> None:
        """Give pinned memory back."""
        self._do("cuMemFreeHost", c_void_p(place))

    def to_device(self, place: int, source: int, size: int) -> None:
        """Copy from host to device on the stream."""
        if size:
            self._do("cuMemcpyHtoDAsync_v2", c_void_p(place), c_void_p(source), c_size_t(size), c_void_p(self.stream))

    def to_host(self, place: int, source: int, size: int) -> None:
        """Copy from device to host on the stream."""
        if size:
            self._do("cuMemcpyDtoHAsync_v2", c_void_p(place), c_void_p(source), c_size_t(size), c_void_p(self.stream))

    def on_device(self, place: int, source: int, size: int) -> None:
        """Copy within the device on the stream."""
        if size:
            self._do("cuMemcpyDtoDAsync_v2", c_void_p(place), c_void_p(source), c_size_t(size), c_void_p(self.stream))

    def wait(self) -> None:
        """Until all work on the stream is done."""
        self._do("cuStreamSynchronize", c_void_p(self.stream))

    def capture(self, work: Callable[[], bool]) -> int | None:
        """Record what ``work`` puts on the stream as a graph that :meth:`launch` runs; None where it cannot be recorded."""
        graph, made = c_void_p(), c_void_p()
        self._do("cuStreamBeginCapture_v2", c_void_p(self.stream), c_int(_RELAXED))
        try:
            done = work()
        finally:
            code = self._library.cuStreamEndCapture(c_void_p(self.stream), ctypes.byref(graph))
        if not done or code != 0 or not graph.value:
            if graph.value:
                self._do("cuGraphDestroy", graph)
            return None
        try:
            self._do("cuGraphInstantiateWithFlags", ctypes.byref(made), graph, ctypes.c_ulonglong(0))
        finally:
            self._do("cuGraphDestroy", graph)
        return made.value

    def launch(self, graph: int) -> None:
        """Put a recorded graph on the stream."""
        self._do("cuGraphLaunch", c_void_p(graph), c_void_p(self.stream))

    def drop_graph(self, graph: int) -> None:
        """Free a recorded graph."""
        self._do("cuGraphExecDestroy", c_void_p(graph))

    def event(self) -> int:
        """A point in the stream's time."""
        made = c_void_p()
        self._do("cuEventCreate", ctypes.byref(made), c_uint(_EVENT_DEFAULT))
        return made.value or 0

    def record(self, event: int) -> None:
        """Set ``event`` behind what is on the stream."""
        self._do("cuEventRecord", c_void_p(event), c_void_p(self.stream))

    def elapsed_ms(self, first: int, second: int) -> float:
        """Milliseconds between two events that are over."""
        found = c_float()
        name = "cuEventElapsedTime_v2" if hasattr(self._library, "cuEventElapsedTime_v2") else "cuEventElapsedTime"
        self._do(name, ctypes.byref(found), c_void_p(first), c_void_p(second))
        return float(found.value)

    def drop_event(self, event: int) -> None:
        """Free an event."""
        self._do("cuEventDestroy_v2", c_void_p(event))

    def close(self) -> None:
        """Free the stream and let go of the context; twice is harmless."""
        if self.stream:
            self._do("cuStreamDestroy_v2", c_void_p(self.stream))
            self.stream = 0
            self._do("cuDevicePrimaryCtxRelease_v2", self._device)

    def _do(self, name: str, *arguments: Any) -> None:
        try:
            call = getattr(self._library, name)
        except AttributeError as error:
            raise Unavailable(f"the NVIDIA driver is too old: it lacks {name}", fix="Update the driver.") from error
        if (code := call(*arguments)) != 0:
            raise _failed(self._library, name, code)


def _failed(library: Any, name: str, code: int) -> DeploykitError:
    if code == OUT_OF_MEMORY:
        return Unavailable("the GPU has not enough free memory", fix="Use a smaller batch, or free the GPU.")
    text = ctypes.c_char_p()
    library.cuGetErrorName(c_int(code), ctypes.byref(text))
    said = text.value.decode() if text.value else f"error {code}"
    return AnswerNo(f"the CUDA driver failed in {name}: {said}")
