"""Inputs and outputs bound to a session once per input shape (ONNX Runtime's IO binding)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from deploykit.base.runner import TensorSpec


class Bound:
    """A session bound to buffers for one input shape."""

    def __init__(
        self,
        names: list[str],
        fill: Callable[[np.ndarray], None],
        rerun: Callable[[], None],
        read: Callable[[], Iterable[np.ndarray]],
    ) -> None:
        self.names, self._fill, self.rerun, self._read = names, fill, rerun, read

    def run(self, x: np.ndarray) -> np.ndarray:
        """The first output for ``x``, a new float32 array."""
        self._fill(x)
        self.rerun()
        return _float32(next(iter(self._read())))

    def run_all(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Every output for ``x``, new arrays; floating ones as float32."""
        self._fill(x)
        self.rerun()
        return {name: _float32(one) for name, one in zip(self.names, self._read(), strict=True)}


def _float32(out: np.ndarray) -> np.ndarray:
    return out if out.dtype == np.float32 or out.dtype.kind != "f" else out.astype(np.float32)


def bind(
    session: Any, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], x: np.ndarray, device: str
) -> Bound:
    """Allocate buffers for inputs of the shape of ``x`` and bind them.

    The shapes of the outputs come from one plain run. An output whose shape depends on more than the input's shape is
    left to ONNX Runtime to allocate at every call.
    """
    import onnxruntime as ort

    names = [one.name for one in outputs]
    binding = session.io_binding()
    dims = set(inputs[0].shape)
    first = session.run(None, {inputs[0].name: x})
    fixed = all(isinstance(dim, int) or dim in dims for one in outputs for dim in one.shape)
    if device == "cpu":
        buffer = np.empty_like(x, order="C")
        value = ort.OrtValue.ortvalue_from_numpy(buffer)
        zero_copy = value.data_ptr() == buffer.ctypes.data
    else:
        value = ort.OrtValue.ortvalue_from_shape_and_type(x.shape, x.dtype, device, 0)
        zero_copy = False

    def fill_buffer(x: np.ndarray) -> None:
        np.copyto(buffer, x)

    fill = fill_buffer if zero_copy else value.update_inplace
    binding.bind_ortvalue_input(inputs[0].name, value)
    if not fixed:
        for name in names:
            binding.bind_output(name, "cpu")
        return Bound(names, fill, _rerun(session, binding), binding.copy_outputs_to_cpu)
    if device == "cpu":
        arrays = [np.empty_like(one) for one in first]
        values = [ort.OrtValue.ortvalue_from_numpy(one) for one in arrays]
    else:
        values = [ort.OrtValue.ortvalue_from_shape_and_type(one.shape, one.dtype, device, 0) for one in first]
    for name, one in zip(names, values, strict=True):
        binding.bind_ortvalue_output(name, one)
    if device == "cpu" and all(one.data_ptr() == a.ctypes.data for one, a in zip(values, arrays, strict=True)):
        return Bound(names, fill, _rerun(session, binding), lambda: (one.copy() for one in arrays))
    return Bound(names, fill, _rerun(session, binding), lambda: (one.numpy() for one in values))


def _rerun(session: Any, binding: Any) -> Callable[[], None]:
    run = session.run_with_iobinding

    def rerun() -> None:
        run(binding)

    return rerun
