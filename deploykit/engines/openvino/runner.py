"""The runner over an OpenVINO request with buffers of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from deploykit.base.engine_layers import EngineAudit, TimedLayer
from deploykit.base.errors import AnswerNo, BadInput, Unavailable
from deploykit.base.runner import Runner, TensorSpec
from deploykit.base.spec import Spec
from deploykit.base.targets import OPENVINO
from deploykit.engines.inputs import check_input, fits
from deploykit.engines.metadata import of_file
from deploykit.engines.openvino.compiled_model import TYPES, compiled, inference_precision, library, read
from deploykit.engines.openvino.profile import audit, timed_layers

_DTYPES = {
    "f32": "float32",
    "f16": "float16",
    "f64": "float64",
    "u8": "uint8",
    "i8": "int8",
    "i32": "int32",
    "i64": "int64",
}
KEPT_SHAPES = 4


class _Bound:
    """A request compiled for one input shape; its input, and outputs whose shape is known, are buffers of our own.

    OpenVINO does not keep shared buffers alive: they live as long as this object.
    """

    def __init__(self, made: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        tensor = library().Tensor
        self.made = made
        self.request = made.create_infer_request()
        self.buffer = np.zeros(shape, dtype)
        self.request.set_input_tensor(tensor(self.buffer, shared_memory=True))
        self.answers: list[np.ndarray | None] = []
        for index, node in enumerate(made.outputs):
            static = node.get_partial_shape().is_static
            answer = np.zeros(tuple(node.shape), node.get_element_type().to_dtype()) if static else None
            if answer is not None:
                self.request.set_output_tensor(index, tensor(answer, shared_memory=True))
            self.answers.append(answer)
        self.rerun: Callable[[], None] = self.request.infer

    def run(self, x: np.ndarray) -> None:
        np.copyto(self.buffer, x)
        self.rerun()

    def output(self, index: int) -> np.ndarray:
        """A new array; floating ones as float32."""
        found = self.answers[index]
        if found is None:
            found = self.request.get_output_tensor(index).data
        return found.copy() if found.dtype == np.float32 or found.dtype.kind != "f" else found.astype(np.float32)


class OpenVinoRunner:
    """One model; see :class:`deploykit.base.runner.Runner`.

    It is compiled for each input shape that is run (the last four are kept); opening compiles it for one picture, or for the
    only batch it takes.
    """

    target, device = OPENVINO, "cpu"

    def __init__(self, spec: Spec, model: Any, threads: int | None, size: int | None) -> None:
        self.spec, self.threads = spec, threads
        self._model: Any = model
        if len(model.inputs) != 1:
            names = [one.get_any_name() for one in model.inputs]
            raise BadInput(f"{spec.path} has several inputs", got=names, expected="one, the pictures")
        self.inputs = (_tensor(model.inputs[0], "input", spec.path),)
        self.outputs = tuple(_tensor(one, "output", spec.path) for one in model.outputs)
        self._input = self.inputs[0]
        self._dtype = np.dtype(self._input.dtype)
        self._taken = tuple(kind for kind in (self._dtype, np.dtype(np.float32)) if fits(kind, self._input))
        known = of_file(spec.path, _metadata(spec.path), size=size, embedded=self._input.dtype == "uint8")
        self.preprocessing, self.classes = known.preprocessing, known.classes
        computed = inference_precision(spec.options)
        self.precision = known.precision if known.precision == "int8" or computed == "f32" else TYPES[computed]
        self.notes = [*known.notes, f"OpenVINO computes float32 layers in {computed}, as it was told"]
        self._bound: dict[tuple[int, ...], _Bound] = {}
        if (shape := self._first_shape()) is not None:
            self._bound[shape] = self._compile(shape)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Run one batch and return a new float32 array of the first output."""
        bound = self._binding(x)
        self._run(bound, x)
        return bound.output(0)

    def run_all(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Run one batch and return every output by name."""
        bound = self._binding(x)
        self._run(bound, x)
        return {one.name: bound.output(index) for index, one in enumerate(self.outputs)}

    def prebound(self, x: np.ndarray) -> Callable[[], None]:
        """A call that runs ``x``, which already lies in the engine's memory, and leaves the answer there."""
        bound = self._binding(x)
        self._run(bound, x)
        return bound.rerun

    def audit(self) -> EngineAudit:
        """What the layers became and in which precision they run; see :mod:`.audit`."""
        if not self._bound:
            raise BadInput(f"nothing was run with {self.spec.path} yet")
        return audit(next(iter(self._bound.values())).made, self.spec.path)

    def timed_layers(self, x: np.ndarray) -> list[TimedLayer]:
        """Each layer with its time, by a profile of a request of its own; see :mod:`.profile`."""
        check_input(x, self._input, self.target)
        given = np.ascontiguousarray(x, self._dtype)
        return timed_layers(self._model, given, self.spec.options, self.threads, self.spec.path)

    def _run(self, bound: _Bound, x: np.ndarray) -> None:
        try:
            bound.run(x)
        except RuntimeError as error:
            text = " ".join(str(error).split())[:300]
            raise AnswerNo(
                f"{self.spec.path} on {self.target} does not run an input of shape {list(x.shape)}: {text}"
            ) from error

    def _binding(self, x: np.ndarray) -> _Bound:
        bound = self._bound.get(x.shape) if isinstance(x, np.ndarray) and x.dtype in self._taken else None
        if bound is None:
            if self._model is None:
                raise BadInput(f"the runner of {self.spec.path} is closed")
            check_input(x, self._input, self.target)
            bound = self._compile(x.shape)
            while len(self._bound) >= KEPT_SHAPES:
                self._bound.pop(next(iter(self._bound)))
            self._bound[x.shape] = bound
        return bound

    def _compile(self, shape: tuple[int, ...]) -> _Bound:
        made = compiled(self._model, shape, self.spec.options, self.threads, self.spec.path)
        return _Bound(made, shape, self._dtype)

    def _first_shape(self) -> tuple[int, ...] | None:
        """The shape of one picture, or of the only batch; None where neither file nor flags say the size."""
        dims = list(self._input.shape)
        if self.preprocessing is not None and len(dims) == 4:
            place = 1 if self._input.layout == "NHWC" else 2
            dims[place : place + 2] = self.preprocessing.size
        dims[0] = dims[0] if isinstance(dims[0], int) else 1
        return tuple(dim for dim in dims if isinstance(dim, int)) if all(isinstance(dim, int) for dim in dims) else None

    def close(self) -> None:
        """Free the model and its buffers."""
        self._bound.clear()
        self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_target(spec: Spec, *, threads: int | None, device: str, size: int | None, allow_code: bool) -> Runner:
    """Open ``spec`` on the CPU; ``device`` and ``allow_code`` concern other engines."""
    inference_precision(spec.options)
    return OpenVinoRunner(spec, read(spec.path), threads, size)


def lacking(target: str) -> Unavailable | None:
    """Why OpenVINO cannot be used here, or None."""
    try:
        library()
    except Unavailable as error:
        return error
    return None


def _tensor(node: Any, kind: str, path: Path) -> TensorSpec:
    name = node.get_any_name() if node.get_names() else kind
    element = node.get_element_type().get_type_name()
    if element not in _DTYPES:
        raise BadInput(f"{path}: its {kind} {name} is {element}", expected="a tensor of numbers")
    dims: list[int | str] = []
    for index, dim in enumerate(node.get_partial_shape()):
        dims.append(dim.get_length() if dim.is_static else ("batch" if index == 0 else f"dim{index}"))
    layout = {2: "NC", 4: "NCHW"}.get(len(dims))
    if len(dims) == 4 and dims[3] == 3 and dims[1] != 3:
        layout = "NHWC"
    return TensorSpec(name, _DTYPES[element], tuple(dims), layout)


def _metadata(path: Path) -> dict[str, str]:
    """The ``deploykit.*`` entries of an ``.onnx``; an ``.xml`` has its manifest only."""
    if path.suffix.lower() != ".onnx":
        return {}
    import onnx

    return {entry.key: entry.value for entry in onnx.load(str(path), load_external_data=False).metadata_props}
