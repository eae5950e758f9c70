"""Inputs and outputs bound to a session once per input shape (ONNX Runtime's IO binding)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from deploykit.base.runner import Feed
from deploykit.base.tensor_spec import TensorSpec
from deploykit.engines.dlpack import Viewed


class Bound:
    """A session bound to buffers for one shape of its inputs, which ``fills`` puts there."""

    def __init__(
        self,
        names: list[str],
        fills: Mapping[str, Callable[[np.ndarray], None]],
        rerun: Callable[[], None],
        read: Callable[[], Iterable[np.ndarray]],
    ) -> None:
        self.names, self._fills, self.rerun, self._read = names, fills, rerun, read

    def _fill(self, x: Feed) -> None:
        for name, fill in self._fills.items():
            fill(x[name] if isinstance(x, Mapping) else x)

    def run(self, x: Feed) -> np.ndarray:
        """The first output for ``x``, a new float32 array."""
        self._fill(x)
        self.rerun()
        return _float32(next(iter(self._read())))

    def run_all(self, x: Feed) -> dict[str, np.ndarray]:
        """Every output for ``x``, new arrays; floating ones as float32."""
        self._fill(x)
        self.rerun()
        return {name: _float32(one) for name, one in zip(self.names, self._read(), strict=True)}


def _float32(out: np.ndarray) -> np.ndarray:
    return out if out.dtype == np.float32 or out.dtype.kind != "f" else out.astype(np.float32)


def bind(
    session: Any,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    feed: Mapping[str, np.ndarray],
    device: str,
    graph_id: int | None = None,
    index: int = 0,
) -> Bound:
    """Allocate buffers for inputs of the shapes of ``feed`` and bind them.

    The shapes of the outputs come from one plain run. An output whose shape depends on more than the inputs' shapes is
    left to ONNX Runtime to allocate at every call.

    ``session``: open. ``feed``: every input by name, of the shapes and types to bind. ``device``: ``cpu`` or ``cuda``. ``graph_id``: number of the CUDA
    graph that is captured for this shape; None: none is captured.
    """
    import onnxruntime as ort

    names = [one.name for one in outputs]
    binding = session.io_binding()
    dims = {dim for one in inputs for dim in one.shape} - {"?"}
    first = session.run(None, dict(feed), _graph(graph_id and -1))  # its buffers must not be captured
    fixed = all(isinstance(dim, int) or dim in dims for one in outputs for dim in one.shape)
    fills = {name: _bound_input(binding, name, x, device, index) for name, x in feed.items()}
    if not fixed:
        run = _rerun(session, binding, graph_id)

        def rerun_anew() -> None:
            binding.clear_binding_outputs()  # what the last run allocated is bound, and of its size
            for name in names:
                binding.bind_output(name, "cpu")
            run()

        return Bound(names, fills, rerun_anew, binding.copy_outputs_to_cpu)
    if device == "cpu":
        arrays = [np.empty_like(one) for one in first]
        values = [ort.OrtValue.ortvalue_from_numpy(one) for one in arrays]
    else:
        values = [ort.OrtValue.ortvalue_from_shape_and_type(one.shape, one.dtype, device, index) for one in first]
    for name, one in zip(names, values, strict=True):
        binding.bind_ortvalue_output(name, one)
    if device == "cpu" and all(one.data_ptr() == a.ctypes.data for one, a in zip(values, arrays, strict=True)):
        return Bound(names, fills, _rerun(session, binding, graph_id), lambda: (one.copy() for one in arrays))
    return Bound(names, fills, _rerun(session, binding, graph_id), lambda: (one.numpy() for one in values))


def _bound_input(binding: Any, name: str, x: np.ndarray, device: str, index: int) -> Callable[[np.ndarray], None]:
    """Bind a buffer for an input like ``x``; what is returned fills it."""
    import onnxruntime as ort

    if device == "cpu":
        buffer = np.empty_like(x, order="C")
        value = ort.OrtValue.ortvalue_from_numpy(buffer)
        zero_copy = value.data_ptr() == buffer.ctypes.data
    else:
        value = ort.OrtValue.ortvalue_from_shape_and_type(x.shape, x.dtype, device, index)
        zero_copy = False
    binding.bind_ortvalue_input(name, value)

    def fill_buffer(given: np.ndarray) -> None:
        np.copyto(buffer, given)

    def fill_device(given: np.ndarray) -> None:
        value.update_inplace(np.ascontiguousarray(given, dtype=x.dtype))

    return fill_buffer if zero_copy else fill_device


def run_where_it_lies(
    session: Any, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], seen: Viewed, device: str
) -> dict[str, np.ndarray]:
    """Run an array of another library without copying it: it lies on the session's own device.

    ``session``: open. ``seen``: the array, of the type and a shape that the session takes. ``device``: ``cpu`` or
    ``cuda``. Returns every output by name, new arrays; floating ones as float32.
    """
    binding = session.io_binding()
    binding.bind_input(inputs[0].name, device, seen.device[1], np.dtype(seen.dtype), list(seen.shape), seen.place)
    for one in outputs:
        binding.bind_output(one.name, "cpu")
    binding.synchronize_inputs()  # what its owner still computes on another stream
    session.run_with_iobinding(
        binding, _graph(-1 if device == "cuda" else None)
    )  # the address may be another next time
    names = [one.name for one in outputs]
    return {name: _float32(one) for name, one in zip(names, binding.copy_outputs_to_cpu(), strict=True)}


def _graph(number: int | None) -> Any:
    """Run options that name the CUDA graph to capture or replay (-1: none), or None."""
    if number is None:
        return None
    import onnxruntime as ort

    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(number))
    return options


def _rerun(session: Any, binding: Any, graph_id: int | None) -> Callable[[], None]:
    run, options = session.run_with_iobinding, _graph(graph_id)
    if options is not None:
        return lambda: run(binding, options)

    def rerun() -> None:
        run(binding)

    return rerun
