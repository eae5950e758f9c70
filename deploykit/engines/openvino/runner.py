"""The runner over an OpenVINO request with buffers of its own."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from deploykit.base.engine_layers import EngineAudit, TimedLayer
from deploykit.base.errors import AnswerNo, BadInput, Unavailable
from deploykit.base.overrides import Stated
from deploykit.base.runner import Feed, Runner
from deploykit.base.spec import Spec
from deploykit.base.targets import OPENVINO
from deploykit.base.tensor_spec import TensorSpec, layout_of
from deploykit.engines.inputs import declared_feed, key_of, shown, taken
from deploykit.engines.metadata import of_file
from deploykit.engines.onnx_graph import Declared
from deploykit.engines.openvino.compiled_model import TYPES, compiled, inference_precision, library, read
from deploykit.engines.openvino.profile import audit, timed_layers

_DTYPES = {
    "f32": "float32",
    "f16": "float16",
    "f64": "float64",
    "u8": "uint8",
    "i8": "int8",
    "u16": "uint16",
    "i16": "int16",
    "u32": "uint32",
    "i32": "int32",
    "u64": "uint64",
    "i64": "int64",
    "boolean": "bool",
}
KEPT_SHAPES = 4


class _Bound:
    """A request compiled for one shape of its inputs; these, and outputs whose shape is known, are buffers of our own.

    OpenVINO does not keep shared buffers alive: they live as long as this object.
    """

    def __init__(self, made: Any, like: Mapping[str, np.ndarray]) -> None:
        tensor = library().Tensor
        self.made = made
        self.request = made.create_infer_request()
        self.buffers = {name: np.zeros(x.shape, x.dtype) for name, x in like.items()}
        for place, buffer in enumerate(self.buffers.values()):
            self.request.set_input_tensor(place, tensor(buffer, shared_memory=True))
        self.answers: list[np.ndarray | None] = []
        for index, node in enumerate(made.outputs):
            static = node.get_partial_shape().is_static
            answer = np.zeros(tuple(node.shape), node.get_element_type().to_dtype()) if static else None
            if answer is not None:
                self.request.set_output_tensor(index, tensor(answer, shared_memory=True))
            self.answers.append(answer)
        self.rerun: Callable[[], None] = self.request.infer

    def run(self, x: Feed) -> None:
        for name, buffer in self.buffers.items():
            np.copyto(buffer, x[name] if isinstance(x, Mapping) else x)
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

    def __init__(self, spec: Spec, model: Any, threads: int | None, stated: Stated) -> None:
        self.spec, self.threads = spec, threads
        self._model: Any = model
        if not model.inputs:
            raise BadInput(f"{spec.path} has no inputs", expected="a network that is given something")
        self.inputs = tuple(_tensor(one, "input", spec.path) for one in model.inputs)
        self.outputs = tuple(_tensor(one, "output", spec.path) for one in model.outputs)
        self._input = self.inputs[0]
        self._taken = {one.name: taken(one) for one in self.inputs}
        known = of_file(spec.path, Declared(self.inputs, self.outputs, _metadata(spec.path)), stated)
        self.preprocessing, self.classes, self.task = known.preprocessing, known.classes, known.task
        computed = inference_precision(spec.options)
        self.precision = known.precision if known.precision == "int8" or computed == "f32" else TYPES[computed]
        self.notes = [*known.notes, f"OpenVINO computes float32 layers in {computed}, as it was told"]
        self._bound: dict[Hashable, _Bound] = {}
        if (shape := self._first_shape()) is not None:
            first = {self._input.name: np.zeros(shape, self._input.dtype)}
            self._bound[key_of(first[self._input.name], self._taken)] = self._compile(first)

    def __call__(self, x: Feed) -> np.ndarray:
        """Run one batch and return a new float32 array of the first output."""
        bound = self._binding(x)
        self._run(bound, x)
        return bound.output(0)

    def run_all(self, x: Feed) -> dict[str, np.ndarray]:
        """Run one batch and return every output by name."""
        bound = self._binding(x)
        self._run(bound, x)
        return {one.name: bound.output(index) for index, one in enumerate(self.outputs)}

    def prebound(self, x: Feed) -> Callable[[], None]:
        """A call that runs ``x``, which already lies in the engine's memory, and leaves the answer there."""
        bound = self._binding(x)
        self._run(bound, x)
        return bound.rerun

    def audit(self) -> EngineAudit:
        """What the layers became and in which precision they run; see :mod:`.audit`."""
        if not self._bound:
            raise BadInput(f"nothing was run with {self.spec.path} yet")
        return audit(next(iter(self._bound.values())).made, self.spec.path)

    def timed_layers(self, x: Feed) -> list[TimedLayer]:
        """Each layer with its time, by a profile of a request of its own; see :mod:`.profile`."""
        given = {name: np.ascontiguousarray(one) for name, one in declared_feed(x, self.inputs, self.target).items()}
        return timed_layers(self._model, given, self.spec.options, self.threads, self.spec.path)

    def _run(self, bound: _Bound, x: Feed) -> None:
        try:
            bound.run(x)
        except RuntimeError as error:
            text = " ".join(str(error).split())[:300]
            raise AnswerNo(
                f"{self.spec.path} on {self.target} does not run an input of shape {shown(x)}: {text}"
            ) from error

    def _binding(self, x: Feed) -> _Bound:
        key = key_of(x, self._taken)
        bound = self._bound.get(key) if key is not None else None
        if bound is None:
            if self._model is None:
                raise BadInput(f"the runner of {self.spec.path} is closed")
            bound = self._compile(declared_feed(x, self.inputs, self.target))
            while len(self._bound) >= KEPT_SHAPES:
                self._bound.pop(next(iter(self._bound)))
            self._bound[key] = bound
        return bound

    def _compile(self, like: Mapping[str, np.ndarray]) -> _Bound:
        shapes = [one.shape for one in like.values()]
        return _Bound(compiled(self._model, shapes, self.spec.options, self.threads, self.spec.path), like)

    def _first_shape(self) -> tuple[int, ...] | None:
        """The shape of one image, or of the only batch; None where neither file nor flags say it, or there is more to give."""
        if len(self.inputs) != 1 or not self._input.shape:
            return None
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


def open_target(spec: Spec, *, threads: int | None, device: str, stated: Stated, allow_code: bool) -> Runner:
    """Open ``spec`` on the CPU; ``device`` and ``allow_code`` concern other engines."""
    inference_precision(spec.options)
    return OpenVinoRunner(spec, read(spec.path), threads, stated)


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
    return TensorSpec(name, _DTYPES[element], tuple(dims), layout_of(dims))


def _metadata(path: Path) -> dict[str, str]:
    """The ``deploykit.*`` entries of an ``.onnx``; an ``.xml`` has its manifest only."""
    if path.suffix.lower() != ".onnx":
        return {}
    import onnx

    return {entry.key: entry.value for entry in onnx.load(str(path), load_external_data=False).metadata_props}
