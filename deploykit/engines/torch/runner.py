"""The runner over a PyTorch module, eager (the reference of parity) or compiled by Inductor; its outputs by name."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from deploykit.base.engine_layers import EngineAudit
from deploykit.base.errors import AnswerNo, BadInput, Unavailable
from deploykit.base.overrides import Stated
from deploykit.base.runner import Feed, Runner
from deploykit.base.spec import Spec
from deploykit.base.targets import TORCH_COMPILE, TORCH_EAGER
from deploykit.base.tensor_spec import TensorSpec
from deploykit.engines.inputs import check_input, refuse_options, switch
from deploykit.engines.torch.compile import missing_for_compile
from deploykit.models import LoadedModel, load_model
from deploykit.models.detection import RawHeads, is_single_stage
from deploykit.models.module_outputs import first_output, input_channels, named_outputs, output_specs

OPTIONS = {
    "arch": "what the tensors are, where recognition cannot tell (torchvision:resnet18)",
    "channels_last": "1: memory format of weights and input",
    "use_tf32": "1: TF32 on a GPU; off otherwise",
    "cuda_graph": "1: compute times replay one CUDA graph per input shape, without launching kernel by kernel",
}


class TorchRunner:
    """One module on one device; see :class:`deploykit.base.runner.Runner`.

    ``loaded``: the model file, with its module, samples and lineage. ``notes``: what had to be assumed.
    """

    def __init__(self, spec: Spec, loaded: LoadedModel, device: str, threads: int | None) -> None:
        assert spec.target is not None
        self.spec, self.target, self.device = spec, spec.target, device
        self.loaded, self.preprocessing, self.classes = loaded, loaded.preprocessing, loaded.classes
        self.task = loaded.task
        self.notes = list(loaded.notes)
        tf32 = switch(spec.options, "use_tf32", False) and device == "cuda"
        self.precision = "tf32" if tf32 else "fp32"
        self.threads = threads
        if threads is not None:
            torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        self._graphed = switch(spec.options, "cuda_graph", False) and device == "cuda"
        last = switch(spec.options, "channels_last", False)
        self._format = torch.channels_last if last else torch.contiguous_format
        if is_single_stage(loaded.module):
            loaded.module = RawHeads(loaded.module).eval()
            self.notes.append("detector: backbone and head are run; resizing, anchors, decoding and NMS stay outside")
        module = loaded.module
        if loaded.program is None:
            module = module.to(device).to(memory_format=self._format).requires_grad_(False)
        self._pinned: torch.Tensor | None = None  # the copy to the GPU starts from page-locked memory
        self._module: Any = _compiled(module) if spec.target == TORCH_COMPILE else module
        self.inputs = (_input(loaded),)

    @cached_property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Found by running one black image, because a module does not declare its outputs."""
        spec = self.inputs[0]
        size = [dim if isinstance(dim, int) else 64 for dim in spec.shape[2:]]
        shape = (spec.channels or 3, *size)
        try:
            found = output_specs(self.loaded.module, shape, spec.fixed_batch or 1)
        except (RuntimeError, ValueError, AssertionError, TypeError, IndexError):
            self.run_all(np.zeros((spec.fixed_batch or 1, *shape), dtype=np.float32))  # which says why
            raise
        return tuple(replace(one, shape=(spec.shape[0], *one.shape[1:])) for one in found)

    def __call__(self, x: Feed) -> np.ndarray:
        """Run one batch and return a new float32 array of the first output."""
        return _array(first_output(self._forward(self._tensor(x))))

    def run_all(self, x: Feed) -> dict[str, np.ndarray]:
        """Run one batch and return every output by name."""
        return {name: _array(out) for name, out in named_outputs(self._forward(self._tensor(x))).items()}

    def prebound(self, x: Feed) -> Callable[[], None]:
        """A call that runs ``x``, which already lies on the device, and waits until the answer is complete there."""
        tensor, forward = self._tensor(x), self._forward
        if self.device == "cuda":
            run = self._on_gpu(tensor)

            def rerun() -> None:
                run()
                torch.cuda.synchronize()
        else:

            def rerun() -> None:
                forward(tensor)

        rerun()
        return rerun

    def prebound_on_device(self, x: Feed) -> Callable[[], float] | None:
        """As :meth:`prebound`, timed by CUDA events; None on the CPU."""
        if self.device != "cuda":
            return None
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        run = self._on_gpu(self._tensor(x))

        def timed() -> float:
            start.record()
            run()
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end))

        timed()
        return timed

    def _on_gpu(self, tensor: torch.Tensor) -> Callable[[], object]:
        """A call that starts the run of ``tensor``: the module, or with ``cuda_graph=1`` its replay as one graph."""
        forward = self._forward
        if not self._graphed:
            return lambda: forward(tensor)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                forward(tensor)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                forward(tensor)
        except RuntimeError as error:
            raise AnswerNo(
                f"{self.spec.path} cannot be captured as a CUDA graph: {' '.join(str(error).split())[:200]}",
                fix="Leave cuda_graph=1 away.",
            ) from error
        return graph.replay

    def audit(self) -> EngineAudit:
        """What is known of how it runs: the memory format and whether TF32 is on."""
        return {
            "channels_last": self._format is torch.channels_last,
            "tf32": self.precision == "tf32",
            "cuda_graph": self._graphed,
            "intra_op_threads": torch.get_num_threads(),
        }

    def _tensor(self, given: Feed) -> torch.Tensor:
        x = check_input(given, self.inputs[0], self.target)
        tensor = torch.from_numpy(x) if x.flags.writeable else torch.tensor(x)
        if self.device == "cuda":
            if self._pinned is None or self._pinned.shape != tensor.shape or self._pinned.dtype != tensor.dtype:
                self._pinned = torch.empty_like(tensor, memory_format=torch.contiguous_format).pin_memory()
            tensor = self._pinned.copy_(tensor)
        return tensor.to(device=self.device).contiguous(memory_format=self._format)

    def _forward(self, tensor: torch.Tensor) -> Any:
        if self._module is None:
            raise BadInput(f"the runner of {self.spec.path} is closed")
        try:
            with torch.inference_mode():
                return self._module(tensor)
        except torch.OutOfMemoryError as error:
            raise Unavailable(f"{self.target}: not enough GPU memory for batch {len(tensor)}") from error
        except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
            text = " ".join(str(error).split())[:300]
            if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise Unavailable(f"{self.target} does not work here: {text}", fix=f"Use {TORCH_EAGER}.") from error
            raise AnswerNo(
                f"{self.spec.path} on {self.target} does not run an input of shape {list(tensor.shape)}: {text}"
            ) from error

    def close(self) -> None:
        """Free the module."""
        self._module = self._pinned = None
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _compiled(module: torch.nn.Module) -> Any:
    # Inductor looks for a CUDA toolkit even for the CPU and warns that there is no driver: nothing to act on.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # TF32 is off on purpose: the option use_tf32=1 turns it on.
    warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")
    return torch.compile(module)


def open_target(spec: Spec, *, threads: int | None, device: str, stated: Stated, allow_code: bool) -> Runner:
    """Open ``spec``, eager or compiled.

    Raises:
        BadInput: the file cannot be loaded, or an option is unknown.
        Unavailable: no GPU where one was asked for; no compiler.
    """
    assert spec.target is not None
    refuse_options(spec.options, OPTIONS, spec.target)
    place = "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
    if place == "cuda" and not torch.cuda.is_available():
        built = "this PyTorch is built without CUDA" if torch.version.cuda is None else "PyTorch finds no GPU or driver"
        raise Unavailable(f"{spec.target} cannot run on cuda here: {built}", fix="Use --device cpu.")
    if spec.target == TORCH_COMPILE and (missing := missing_for_compile(place)) is not None:
        raise Unavailable(f"{spec.target} cannot run here: {missing[0]}", fix=missing[1])
    loaded = load_model(
        spec.path, arch=spec.options.get("arch"), stated=stated, allow_code=allow_code, target=spec.target
    )
    return TorchRunner(spec, loaded, place, threads)


def lacking(target: str) -> Unavailable | None:
    """Nothing: PyTorch is here, and what compiling needs is asked for when a module is compiled."""
    return None


def _input(loaded: LoadedModel) -> TensorSpec:
    """What the module takes: the batch is free, except in exported programs that fixed it."""
    height: int | str = "height"
    width: int | str = "width"
    if loaded.preprocessing is not None:
        height, width = loaded.preprocessing.size
    if loaded.program is None:
        known = loaded.preprocessing
        channels = input_channels(loaded.module) if known is None else known.channels
        return TensorSpec("input", "float32", ("batch", channels, height, width), "NCHW")
    names = loaded.program.graph_signature.user_inputs
    if len(names) != 1:
        raise BadInput("the exported program has several inputs", got=list(names), expected="one, the pictures")
    node = next(node for node in loaded.program.graph.nodes if node.name == names[0])
    value = node.meta["val"]
    free = ("batch", "channels", height, width)
    shape = tuple(dim if isinstance(dim, int) else name for dim, name in zip(value.shape, free, strict=False))
    return TensorSpec(
        str(names[0]), str(value.dtype).removeprefix("torch."), shape, "NCHW" if len(shape) == 4 else None
    )


def _array(out: torch.Tensor) -> np.ndarray:
    """A new array that shares no memory with the module; floating values as float32."""
    if out.is_floating_point():
        out = out.to(torch.float32)
    array = out.cpu().numpy()
    return array.copy() if out.device.type == "cpu" else array
