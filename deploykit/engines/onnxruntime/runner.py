"""The runner over an ONNX Runtime session with pre-bound inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np

from deploykit.base.artifact import read_manifest
from deploykit.base.engine_layers import EngineAudit, TimedLayer
from deploykit.base.errors import AnswerNo, BadInput, Unavailable
from deploykit.base.overrides import Stated
from deploykit.base.runner import Feed, Runner
from deploykit.base.spec import Spec
from deploykit.base.targets import target_of
from deploykit.base.tensor_spec import TensorSpec, layout_of
from deploykit.engines.dlpack import CUDA, CUDA_MANAGED, view
from deploykit.engines.inputs import check_shape, declared_feed, feed_of, key_of, shown, taken
from deploykit.engines.metadata import of_file
from deploykit.engines.onnx_graph import Declared
from deploykit.engines.onnxruntime.audit import audit
from deploykit.engines.onnxruntime.io_binding import Bound, bind, run_where_it_lies
from deploykit.engines.onnxruntime.profile import timed_layers
from deploykit.engines.onnxruntime.providers import need_provider
from deploykit.engines.onnxruntime.session import building, create_session, ort_errors, plain_words

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(uint16)": "uint16",
    "tensor(int16)": "int16",
    "tensor(uint32)": "uint32",
    "tensor(int32)": "int32",
    "tensor(uint64)": "uint64",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
KEPT_SHAPES = 4


class OrtRunner:
    """One ONNX Runtime session; see :class:`deploykit.base.runner.Runner`.

    Buffers are allocated once per input shape (the last four are kept), refilled, and the answer is a copy. Arrays of other
    libraries that speak DLPack (PyTorch, CuPy) and lie on the session's device are read where they lie.
    """

    def __init__(self, spec: Spec, session: Any, threads: int | None, stated: Stated) -> None:
        assert spec.target is not None
        self.spec, self.target, self.threads = spec, spec.target, threads
        self.device = "cpu" if target_of(spec.target).on_cpu else "cuda"
        self._index = int(spec.options.get("device_id", "0"))
        self._session: Any = session
        self.inputs = tuple(_tensor(node, "input", spec) for node in session.get_inputs())
        self.outputs = tuple(_tensor(node, "output", spec) for node in session.get_outputs())
        if not self.inputs:
            raise BadInput(f"{spec.path} has no inputs", expected="a network that is given something")
        self._input = self.inputs[0]
        self._taken = {one.name: taken(one) for one in self.inputs}
        declared = Declared(self.inputs, self.outputs, session.get_modelmeta().custom_metadata_map)
        known = of_file(spec.path, declared, stated)
        self.preprocessing, self.classes, self.task = known.preprocessing, known.classes, known.task
        self.notes = list(known.notes)
        _refuse_other_size(self._input, self.preprocessing, spec)
        tf32 = self.device == "cuda" and known.precision == "fp32" and spec.options.get("use_tf32", "1") != "0"
        self.precision = "tf32" if tf32 else known.precision
        self._bound: dict[Hashable, Bound] = {}
        self._graphs = 0
        self._errors = ort_errors()

    def __call__(self, x: Any) -> np.ndarray:
        """Run one batch and return a new float32 array of the first output."""
        try:
            if not isinstance(x, np.ndarray) and hasattr(x, "__dlpack_device__"):
                return self._where_it_lies(x)[self.outputs[0].name]
            return self._binding(x).run(x)
        except self._errors as error:
            raise self._failed(error, x) from error

    def run_all(self, x: Any) -> dict[str, np.ndarray]:
        """Run one batch and return every output by name."""
        try:
            if not isinstance(x, np.ndarray) and hasattr(x, "__dlpack_device__"):
                return self._where_it_lies(x)
            return self._binding(x).run_all(x)
        except self._errors as error:
            raise self._failed(error, x) from error

    def prebound(self, x: Feed) -> Callable[[], None]:
        """A call that runs ``x``, which already lies in the engine's memory, and leaves the answer there.

        This is what compute time means: no copies, no checks; it returns when the answer is complete.
        """
        bound = self._binding(x)
        bound.run(x)
        return bound.rerun

    def audit(self) -> EngineAudit:
        """How the graph was placed: nodes per provider and Memcpy nodes; see :mod:`.audit`."""
        return audit(self._session, self.spec, self.threads)

    def timed_layers(self, x: Feed) -> list[TimedLayer]:
        """Each layer with its time, by a profile of a session of its own; see :mod:`.profile`."""
        given = declared_feed(x, self.inputs, self.target)
        try:
            return timed_layers(self.spec, self.threads, given)
        except self._errors as error:
            raise self._failed(error, x) from error

    def _binding(self, x: Feed) -> Bound:
        key = key_of(x, self._taken)
        bound = self._bound.get(key) if key is not None else None
        if bound is None:
            if self._session is None:
                raise BadInput(f"the runner of {self.spec.path} is closed")
            given = declared_feed(x, self.inputs, self.target)
            graph_id = None
            if self.spec.options.get("cuda_graph") == "1":
                self._graphs += 1
                graph_id = self._graphs
            with building(self.spec.path, self.target, self.spec.options):
                bound = bind(self._session, self.inputs, self.outputs, given, self.device, graph_id, self._index)
            while len(self._bound) >= KEPT_SHAPES:
                self._bound.pop(next(iter(self._bound)))
            self._bound[key] = bound
        return bound

    def _where_it_lies(self, x: Any) -> dict[str, np.ndarray]:
        if self._session is None:
            raise BadInput(f"the runner of {self.spec.path} is closed")
        kind, index = (int(part) for part in x.__dlpack_device__())
        if (kind in (CUDA, CUDA_MANAGED)) != (self.device == "cuda"):
            raise BadInput(
                f"{self.target}: the array lies on another device than the engine runs on",
                got="a GPU" if self.device == "cpu" else "the host",
                expected=self.device,
                fix="Pass x.cpu()." if self.device == "cpu" else "Pass a numpy array, or x.cuda().",
            )
        if self.device == "cuda" and index != self._index:
            raise BadInput("the array lies on another GPU", got=index, expected=self._index)
        if len(self.inputs) != 1:
            feed_of(x, self.inputs, self.target)  # which says so
        seen = view(x)
        if seen.dtype != self._input.dtype:  # it is read as it is: nothing is rounded on its way in
            raise BadInput(
                f"{self.target}: wrong input {self._input.name!r}", got=seen.dtype, expected=self._input.dtype
            )
        check_shape(seen.shape, seen.dtype, self._input, self.target)
        return run_where_it_lies(self._session, self.inputs, self.outputs, seen, self.device)

    def _failed(self, error: BaseException, x: Any) -> Exception:
        return AnswerNo(
            f"{self.spec.path} on {self.target} does not run an input of shape {shown(x)}: {plain_words(error)}"
        )

    def close(self) -> None:
        """Free the session and its buffers."""
        self._bound.clear()
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_target(spec: Spec, *, threads: int | None, device: str, stated: Stated, allow_code: bool) -> Runner:
    """Open ``spec`` on an ONNX Runtime target; ``device`` and ``allow_code`` concern other engines.

    Options that ``deploykit build`` wrote into the manifest for this target hold where the spec names none.
    """
    assert spec.target is not None
    manifest = read_manifest(spec.path)
    if manifest is not None and manifest.target == spec.target and manifest.stage == "build":
        spec = replace(spec, options={**manifest.facts.get("provider_options", {}), **spec.options})
    session = create_session(spec.path, str(spec.target), spec.options, threads)
    return OrtRunner(spec, session, threads, stated)


def lacking(target: str) -> Unavailable | None:
    """Why the provider of ``target`` does not load here, or None."""
    try:
        need_provider(target)
    except Unavailable as error:
        return error
    return None


def _tensor(node: Any, kind: str, spec: Spec) -> TensorSpec:
    if node.type not in _DTYPES:
        raise BadInput(f"{spec.path}: its {kind} {node.name} is {node.type}", expected="a tensor of numbers")
    unknown = "?" if kind == "output" else "dim"  # it need not be that of an input
    dims = tuple(dim if isinstance(dim, int | str) else f"{unknown}{i}" for i, dim in enumerate(node.shape))
    dtype = _DTYPES[node.type]
    return TensorSpec(node.name, dtype, dims, layout_of(dims))


def _refuse_other_size(tensor: TensorSpec, preprocessing: Any, spec: Spec) -> None:
    if preprocessing is None or len(tensor.shape) != 4:
        return
    place = tensor.shape[1:3] if preprocessing.layout == "NHWC" else tensor.shape[2:4]
    for dim, wanted in zip(place, preprocessing.size, strict=True):
        if isinstance(dim, int) and dim != wanted:
            raise BadInput(
                f"{spec.path} takes pictures of {list(place)} pixels",
                got=f"size {list(preprocessing.size)}",
                fix="Leave --size away, or export the model at that size.",
            )
