"""One execution context: shapes, profiles, buffers, CUDA graphs, outputs whose size only the run tells."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from deploykit.base.errors import AnswerNo, BadInput, DeploykitError
from deploykit.base.runner import Feed
from deploykit.base.tensor_spec import TensorSpec
from deploykit.engines.dlpack import Viewed
from deploykit.engines.tensorrt.cuda import Cuda
from deploykit.engines.tensorrt.log import listening, reason
from deploykit.engines.tensorrt.profiles import Profile, Shape
from deploykit.engines.tensorrt.version import Api

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


class Execution:
    """Runs an engine at one shape of its inputs at a time.

    A recorded graph holds addresses, shapes and scratch memory of the moment it was recorded, so that it is dropped
    when any of them changes; going back to an earlier shape records again, which takes about as long as a few runs.

    ``graphs``: whether runs are recorded as CUDA graphs; false after the engine has shown that it cannot be.
    ``recorded``: how many graphs were recorded so far.
    """

    def __init__(
        self,
        api: Api,
        engine: Any,
        cuda: Cuda,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        profiles: Sequence[Profile],
        graphs: bool,
    ) -> None:
        self._api, self._engine, self._cuda = api, engine, cuda
        self._inputs, self._outputs, self._profiles = inputs, outputs, profiles
        with listening() as said:
            self._context: Any = _made_context(api, engine)
        if self._context is None:
            raise AnswerNo(f"the engine makes no execution context: {reason(said)}", fix="Free the GPU's memory.")
        self._buffers = {one.name: Buffer(cuda, one.dtype) for one in (*inputs, *outputs)}
        self._allocators: dict[str, Any] = {}
        self._shapes: dict[str, Shape] | None = None
        self._profile = -1
        self._graph: int | None = None
        self.graphs, self.recorded = graphs, 0

    def fill(self, x: Feed) -> None:
        """Copy host arrays into the inputs, on the stream."""
        feed = x if isinstance(x, Mapping) else {self._inputs[0].name: x}
        self._to_shapes({name: one.shape for name, one in feed.items()})
        for name, one in feed.items():
            np.copyto(self._buffers[name].array, one)
            self._buffers[name].upload()

    def fill_from_device(self, x: Viewed) -> None:
        """Copy an array that lies on the GPU into the only input, on the stream."""
        self._to_shapes({self._inputs[0].name: x.shape})
        buffer = self._buffers[self._inputs[0].name]
        self._cuda.on_device(buffer.device, x.place, x.size)

    def launch(self) -> None:
        """Put one run on the stream."""
        if self._graph is not None:
            self._cuda.launch(self._graph)
        elif not self._context.execute_async_v3(self._cuda.stream):
            raise self._failed()

    def launcher(self) -> Callable[[], None]:
        """The shortest call that puts one run of the present shape on the stream and waits for it.

        Raises:
            BadInput: (the call) an input of another shape was run since.
        """
        wait, graph, shapes = self._cuda.wait, self._graph, self._shapes
        replay, launch = self._cuda.launch, self.launch

        def bound() -> None:
            if self._graph != graph or self._shapes != shapes:  # its graph is freed, or another input lies there
                raise BadInput("the bound call is of an input shape that is no longer set", fix="Bind it again.")
            if graph is not None:
                replay(graph)
            else:
                launch()
            wait()

        return bound

    def read(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """New arrays of these outputs of the run that is on the stream."""
        if self._allocators:
            self._cuda.wait()
            for name, allocator in self._allocators.items():
                self._take(name, allocator)
        for name in names:
            self._buffers[name].download()
        self._cuda.wait()
        return {name: self._buffers[name].read() for name in names}

    def close(self) -> None:
        """Free context, graph and memory; twice is harmless."""
        self._drop_graph()
        for buffer in self._buffers.values():
            buffer.release()
        for allocator in self._allocators.values():
            allocator.release()
        self._allocators.clear()
        self._context = self._engine = None  # a bound call that outlives the runner must not keep them alive

    @property
    def context(self) -> Any:
        """TensorRT's own context, for profiling."""
        return self._context

    @property
    def profile(self) -> int:
        """Number of the profile in use."""
        return self._profile

    def _to_shapes(self, shapes: dict[str, Shape]) -> None:
        if shapes == self._shapes:
            return
        self._drop_graph()
        self._shapes = None
        self._to_profile(shapes)
        for name, shape in shapes.items():
            with listening() as said:
                taken = self._context.set_input_shape(name, shape)
            if not taken:
                raise BadInput(f"the engine does not take the shape {list(shape)} of {name!r}: {reason(said)}")
            self._buffers[name].fit(shape)
            self._context.set_tensor_address(name, self._buffers[name].device)
        for one in self._outputs:
            self._place_output(one)
        self._shapes = shapes
        self._warm_and_record()

    def _to_profile(self, shapes: dict[str, Shape]) -> None:
        number = choose_profile(self._profiles, shapes)
        if number == self._profile or not self._profiles:
            return
        if not self._context.set_optimization_profile_async(number, self._cuda.stream):
            raise AnswerNo(f"the engine does not switch to its profile {number}")
        self._cuda.wait()
        self._profile = number

    def _place_output(self, one: TensorSpec) -> None:
        shape = tuple(self._context.get_tensor_shape(one.name))
        if -1 in shape:
            if one.name not in self._allocators:
                self._allocators[one.name] = _allocator(self._api, self._cuda)
                self._context.set_output_allocator(one.name, self._allocators[one.name])
            return
        self._buffers[one.name].fit(shape)
        self._context.set_tensor_address(one.name, self._buffers[one.name].device)

    def _warm_and_record(self) -> None:
        """One plain run, which loads and compiles what is lazy, then the recording."""
        if not self._context.execute_async_v3(self._cuda.stream):
            raise self._failed()
        self._cuda.wait()
        if not self.graphs or self._allocators or not self._capturable():
            return
        self._graph = self._cuda.capture(lambda: bool(self._context.execute_async_v3(self._cuda.stream)))
        self.graphs = self._graph is not None
        self.recorded += self._graph is not None

    def _failed(self) -> DeploykitError:
        """Why a run was refused: the memory that an output did not get, else what TensorRT says of it a second time."""
        for allocator in self._allocators.values():
            if allocator.error is not None:
                return allocator.error
        with listening() as said:
            self._context.execute_async_v3(self._cuda.stream)
        return AnswerNo(f"the engine does not run at {_shown(self._shapes or {})}: {reason(said)}")

    def _capturable(self) -> bool:
        told = getattr(self._context, "is_stream_capturable", None)  # of TensorRT-RTX, which compiles while it runs
        return True if told is None else bool(told(self._cuda.stream))

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._cuda.drop_graph(self._graph)
            self._graph = None

    def _take(self, name: str, allocator: Any) -> None:
        buffer = self._buffers[name]
        buffer.fit(allocator.shape)
        self._cuda.on_device(buffer.device, allocator.place, buffer.size)


def choose_profile(profiles: Sequence[Profile], shapes: dict[str, Shape]) -> int:
    """The profile that takes ``shapes`` and whose best served shape is nearest.

    Raises:
        BadInput: none takes them; names the shapes that the engine was built for.
    """
    fitting = [number for number, one in enumerate(profiles) if one.takes(shapes)]
    if profiles and not fitting:
        said = "; ".join(str(one.to_dict()) for one in profiles)
        raise BadInput(
            "no profile of the engine takes the input",
            got=_shown(shapes),
            expected=said,
            fix="Give such a batch, or rebuild with --profile MIN:OPT:MAX.",
        )
    return min(fitting, key=lambda number: profiles[number].distance(shapes), default=-1)


def _shown(shapes: Mapping[str, Shape]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())


def _made_context(api: Api, engine: Any) -> Any:
    """An execution context. TensorRT-RTX compiles kernels for a shape while it runs, by default beside the first runs; a
    recorded graph would keep the slower ones that run until then, so that they are compiled before.
    """
    eager = api.member("DynamicShapesKernelSpecializationStrategy", "EAGER")
    if eager is None or not hasattr(engine, "create_runtime_config"):
        return engine.create_execution_context()
    settings = engine.create_runtime_config()
    settings.dynamic_shapes_kernel_specialization_strategy = eager
    return engine.create_execution_context(settings)


def _allocator(api: Api, cuda: Cuda) -> Any:
    base = api.trt.IOutputAllocator

    class Allocator(base):  # type: ignore[misc, valid-type]  # a class of the library at hand
        """Memory of one output whose size depends on the data.

        What is raised in a call from C++ would end the process: it is kept, and no memory is the answer.
        """

        def __init__(self) -> None:
            base.__init__(self)
            self.place, self.capacity = 0, 0
            self.shape: Shape = ()
            self.error: DeploykitError | None = None

        def reallocate_output(self, tensor_name: str, memory: int, size: int, alignment: int) -> int:
            try:
                if size > self.capacity or not self.place:
                    self.release()
                    self.place, self.capacity = cuda.allocate(size), size
            except DeploykitError as error:
                self.error = error
            return self.place

        def reallocate_output_async(self, tensor_name: str, memory: int, size: int, alignment: int, stream: int) -> int:
            return self.reallocate_output(tensor_name, memory, size, alignment)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            self.shape = tuple(shape)

        def release(self) -> None:
            if self.place:
                cuda.free(self.place)
            self.place, self.capacity = 0, 0

    return Allocator()
