"""The runner over a TensorRT or TensorRT-RTX plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from deploykit.base.artifact import Manifest, read_manifest
from deploykit.base.engine_layers import EngineAudit, EngineLayer, TimedLayer
from deploykit.base.errors import BadInput, Unavailable
from deploykit.base.overrides import Stated
from deploykit.base.runner import Feed, Runner
from deploykit.base.spec import Spec
from deploykit.base.tensor_spec import TensorSpec, layout_of
from deploykit.engines.dlpack import is_on_device, view
from deploykit.engines.inputs import check_shape, feed_of, refuse_options, switch
from deploykit.engines.metadata import of_file
from deploykit.engines.onnx_graph import Declared
from deploykit.engines.tensorrt.audit import PlanAudit, audit_engine, layer_times
from deploykit.engines.tensorrt.cuda import Cuda
from deploykit.engines.tensorrt.execution import Execution
from deploykit.engines.tensorrt.hardware import Gpu, gpu, gpu_or_none, refuse_unserved
from deploykit.engines.tensorrt.plan_file import Header, open_plan, read_header
from deploykit.engines.tensorrt.profiles import Profile, Shape
from deploykit.engines.tensorrt.refit import refit, weights_for
from deploykit.engines.tensorrt.unfused_qdq import PAIRS
from deploykit.engines.tensorrt.version import FLAVOURS, Api, load

OPTIONS = {
    "device": "which GPU",
    "cuda_graph": "0: launch kernels one by one",
    "weights": "ONNX file with the weights of a stripped plan; default: the one that it was built from",
}


class TensorRTRunner:
    """One engine on one GPU; see :class:`deploykit.base.runner.Runner`.

    ``r(x)`` takes host arrays, and arrays on the GPU that speak DLPack (PyTorch, CuPy), which are copied on the GPU.

    ``gpu``: that it runs on. ``profiles``: that the engine was built with. ``notes``: what had to be assumed.
    """

    def __init__(
        self, spec: Spec, api: Api, found: Gpu, stated: Stated, rebuild: str, weights: Path | None, host_code: bool
    ) -> None:
        assert spec.target is not None
        self.spec, self.target, self.threads = spec, spec.target, None
        self.device, self.gpu, self._api = "cuda", found, api
        self._cuda: Cuda | None = Cuda(found.index)
        self._execution: Execution | None = None
        self._events: list[int] = []
        try:
            self._runtime, self._engine = open_plan(api, spec.path, rebuild, host_code=host_code)
            if weights is not None:
                refit(api, self._engine, weights, spec.path)
            self.inputs, self.outputs = _tensors(api, self._engine, "INPUT"), _tensors(api, self._engine, "OUTPUT")
            self.profiles = _profiles(self._engine, self.inputs)
            known = of_file(spec.path, Declared(self.inputs, self.outputs), stated)
            self.preprocessing, self.classes, self.task = known.preprocessing, known.classes, known.task
            self.notes, self.precision = list(known.notes), known.precision
            graphs = switch(spec.options, "cuda_graph", True)
            self._execution = Execution(api, self._engine, self._cuda, self.inputs, self.outputs, self.profiles, graphs)
        except BaseException:
            self.close()
            raise

    def __call__(self, x: Any) -> np.ndarray:
        """Run one batch and return a new float32 array of the first output."""
        return self._run(x, [self.outputs[0].name])[self.outputs[0].name]

    def run_all(self, x: Any) -> dict[str, np.ndarray]:
        """Run one batch and return every output by name."""
        return self._run(x, [one.name for one in self.outputs])

    def prebound(self, x: Feed) -> Callable[[], None]:
        """A call that runs ``x``, which already lies on the GPU, and waits until the answer is complete there."""
        self._fill(x)
        rerun = self._open().launcher()
        rerun()
        return rerun

    def prebound_on_device(self, x: Feed) -> Callable[[], float] | None:
        """As :meth:`prebound`; the call returns milliseconds between two events around the run, on the GPU's clock."""
        self._fill(x)
        execution, cuda = self._open(), self._cuda
        assert cuda is not None
        first, second = cuda.event(), cuda.event()
        self._events += [first, second]

        def timed() -> float:
            cuda.record(first)
            execution.launch()
            cuda.record(second)
            cuda.wait()
            return cuda.elapsed_ms(first, second)

        timed()
        return timed

    def best_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each input that the first profile serves best; the fixed one where there is no profile."""
        best = {name: three[1] for name, three in self.profiles[0].shapes.items()} if self.profiles else {}
        return {one.name: best.get(one.name) or tuple(map(int, one.shape)) for one in self.inputs}

    @property
    def batch_ranges(self) -> tuple[tuple[int, int, int], ...]:
        """Smallest, best served and largest batch size of each profile; none where all shapes are fixed."""
        of_first = (one.shapes.get(self.inputs[0].name) for one in self.profiles)
        return tuple((low[0], best[0], high[0]) for low, best, high in filter(None, of_first))

    def audit(self) -> EngineAudit:
        """Counts of what the builder made: convolutions by precision, reformats, fused groups; see :mod:`.audit`."""
        found = self._audited()
        execution = self._open()
        return {
            **found,
            "layers": len(found["layers"]),
            "cuda_graph": execution.recorded > 0,
            "profile": execution.profile,
        }

    def layers(self) -> list[EngineLayer]:
        """The engine's layers: name, type, precision, tactic, formats, and the ONNX nodes that each comes from."""
        return self._audited()["layers"]

    def _audited(self) -> PlanAudit:
        self._open()
        return audit_engine(self._api, self._engine, pairs_of(read_manifest(self.spec.path)))

    def layer_times(self, x: Feed, runs: int = 20) -> dict[str, float]:
        """Median milliseconds of each layer, by TensorRT's profiler; kernels are launched one by one."""
        self._fill(x)
        execution, cuda = self._open(), self._cuda
        assert cuda is not None
        return layer_times(self._api, execution.context, cuda, runs)

    def timed_layers(self, x: Feed) -> list[TimedLayer]:
        """Each layer with its time: the rows of :meth:`layers` beside those of :meth:`layer_times`."""
        times = self.layer_times(x)
        return [
            {
                "name": row["name"],
                "type": row["type"],
                "precision": row["precision"],
                "tactic": row["tactic"],
                "nodes": row["nodes"],
                "time_us": 1e3 * times[row["name"]],
            }
            for row in self.layers()
            if row["name"] in times
        ]

    def _run(self, x: Any, names: list[str]) -> dict[str, np.ndarray]:
        self._fill(x)
        execution = self._open()
        execution.launch()
        return execution.read(names)

    def _fill(self, x: Any) -> None:
        execution, wanted = self._open(), self.inputs[0]
        assert self._cuda is not None
        self._cuda.use()
        if len(self.inputs) == 1 and not isinstance(x, np.ndarray | Mapping) and is_on_device(x):
            seen = view(x, self._cuda.stream)
            if seen.device[1] != self.gpu.index:
                raise BadInput("the array lies on another GPU", got=seen.device[1], expected=self.gpu.index)
            if seen.dtype != wanted.dtype:  # memory is copied as it is: nothing is rounded on its way in
                raise BadInput(f"{self.target}: wrong input {wanted.name!r}", got=seen.dtype, expected=wanted.dtype)
            check_shape(seen.shape, seen.dtype, wanted, self.target)
            execution.fill_from_device(seen)
            self._cuda.wait()  # its owner may reuse the memory once this returns
        else:
            array = np.from_dlpack(x) if not isinstance(x, np.ndarray | Mapping) and hasattr(x, "__dlpack__") else x
            execution.fill(feed_of(array, self.inputs, self.target))

    def _open(self) -> Execution:
        if self._execution is None:
            raise BadInput(f"the runner of {self.spec.path} is closed")
        return self._execution

    def close(self) -> None:
        """Free the engine, its memory and its stream; twice is harmless."""
        if self._cuda is None:
            return
        self._cuda.use()
        if self._execution is not None:
            self._execution.close()
        for event in self._events:
            self._cuda.drop_event(event)
        self._events.clear()
        self._execution = self._engine = self._runtime = None
        self._cuda.close()
        self._cuda = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_target(spec: Spec, *, threads: int | None, device: str, stated: Stated, allow_code: bool) -> Runner:
    """Open a plan. What is wrong with the file is told first, then what this machine lacks.

    Raises:
        BadInput: no plan of this library, damaged, of another version, its weights are gone, or it holds a runtime that
            nobody allowed to run.
        Unavailable: the library or a GPU is missing, or the plan was built for another GPU.
    """
    assert spec.target is not None
    refuse_options(spec.options, OPTIONS, spec.target)
    index = spec.options.get("device", "0")
    if not index.isdigit():
        raise BadInput("option device", got=repr(index), expected="the number of a GPU")
    if device == "cpu":
        raise BadInput(f"{spec.target} runs on a GPU only", fix="Use --device cuda.")
    header, manifest = read_header(spec.path), read_manifest(spec.path)
    if header.target != spec.target:
        raise BadInput(
            f"{spec.path} is a plan of {header.target}",
            expected=spec.target,
            fix=f"Open it as {spec.path}@{header.target}.",
        )
    api = load(spec.target)
    rebuild = rebuild_command(spec, manifest)
    refuse_other_version(api, header, manifest, spec.path, rebuild)
    if manifest is not None and manifest.config.get("version_compatible") and not allow_code:
        raise BadInput(
            f"{spec.path} brings a runtime of its own, which is code that runs on this machine",
            fix="Pass --allow-code if you trust its maker.",
        )
    weights = weights_for(spec.path, manifest, spec.options.get("weights"))
    found = gpu(int(index))
    refuse_other_gpu(found, manifest, spec.path, rebuild)
    return TensorRTRunner(spec, api, found, stated, rebuild, weights, allow_code)


def lacking(target: str) -> Unavailable | None:
    """Why no plan for ``target`` can be built or run here, or None.

    TensorRT-RTX builds without a GPU; where there is one, it must be one of those that the library serves.
    """
    try:
        refuse_unserved(load(target), gpu_or_none())
    except Unavailable as error:
        return error
    return None


def rebuild_command(spec: Spec, manifest: Manifest | None) -> str:
    """The command that builds a plan again, from what its manifest tells."""
    parent = manifest.parents[0].path if manifest is not None and manifest.parents else None
    return f"deploykit build {parent or 'MODEL.onnx'} --target {spec.target}"


def pairs_of(manifest: Manifest | None) -> set[str]:
    """The ONNX nodes that quantize and dequantize, as the manifest keeps them; empty where it does not."""
    network = manifest.facts.get("network", {}) if manifest is not None else {}
    return {node for row in network.get("layers", []) if row["type"] in PAIRS for node in row["nodes"]}


def refuse_other_version(api: Api, header: Header, manifest: Manifest | None, path: Path, rebuild: str) -> None:
    """Refuse a plan of another version, unless it was built to run on later ones.

    Raises:
        BadInput: naming both versions.
    """
    built, here = header.version.split(".")[:3], api.version.split(".")[:3]
    compatible = manifest is not None and manifest.config.get("version_compatible")
    if built == here or (compatible and tuple(map(int, built)) <= tuple(map(int, here))):
        return
    raise BadInput(
        f"{path} was built with {api.flavour.package} {header.version}, and {api.version} is installed",
        fix=f"Rebuild it: {rebuild}.",
    )


def refuse_other_gpu(found: Gpu, manifest: Manifest | None, path: Path, rebuild: str) -> None:
    """Refuse a plan that was built for another GPU, as its manifest tells; without a manifest the library decides.

    Raises:
        Unavailable: naming both GPUs.
    """
    if manifest is None:
        return
    built: dict[str, str] | None = manifest.hardware.get("gpu")
    level = manifest.config.get("hardware_compatible", "none")
    named = manifest.hardware.get("compute_capabilities")
    flavour = FLAVOURS.get(str(manifest.target))
    if flavour is not None and flavour.ahead_of_time:
        if isinstance(named, list) and named and found.compute_capability not in named:
            raise Unavailable(
                f"{path} was built for compute capability {', '.join(named)}, and this GPU, {found.name}, has "
                f"{found.compute_capability}",
                fix=f"Rebuild it: {rebuild} --compute-capability {found.compute_capability}.",
            )
        return
    if built is None:
        return
    same_chip = built["compute_capability"] == found.compute_capability
    fits = {
        "none": built["name"] == found.name and same_chip,
        "same-compute-capability": same_chip,
        "ampere-plus": float(found.compute_capability) >= 8.0,
    }[level]
    if not fits:
        raise Unavailable(
            f"{path} was built on {built['name']} (compute capability {built['compute_capability']}), and this is "
            f"{found.name} ({found.compute_capability})",
            fix=f"Rebuild it: {rebuild}, or build it with --hardware-compatible.",
        )


def _tensors(api: Api, engine: Any, mode: str) -> tuple[TensorSpec, ...]:
    wanted = api.member("TensorIOMode", mode)
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    return tuple(_tensor(api, engine, name) for name in names if engine.get_tensor_mode(name) == wanted)


def _tensor(api: Api, engine: Any, name: str) -> TensorSpec:
    dims = tuple(engine.get_tensor_shape(name))
    shape = tuple(("batch" if place == 0 else f"dim{place}") if dim == -1 else dim for place, dim in enumerate(dims))
    return TensorSpec(name, api.dtype(engine.get_tensor_dtype(name)), shape, layout_of(shape))


def _profiles(engine: Any, inputs: tuple[TensorSpec, ...]) -> list[Profile]:
    dynamic = [one.name for one in inputs if any(isinstance(dim, str) for dim in one.shape)]
    if not dynamic:
        return []
    made = []
    for number in range(engine.num_optimization_profiles):
        shapes: dict[str, tuple[Shape, Shape, Shape]] = {}
        for name in dynamic:
            low, best, high = (tuple(one) for one in engine.get_tensor_profile_shape(name, number))
            shapes[name] = (low, best, high)
        made.append(Profile(shapes))
    return made
