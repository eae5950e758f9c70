"""Milliseconds of single convolutions on a target whose engine tells each layer's time, for the latency table; kept in the cache."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deploykit.base.atomic import write_json
from deploykit.base.engine_layers import TimedLayer
from deploykit.base.environment import cpu, gpus, library_versions
from deploykit.base.errors import AnswerNo, BadInput, DeploykitError
from deploykit.base.hashing import value_sha256
from deploykit.base.progress import SILENT, Progress
from deploykit.base.runner import Profiled, Runner
from deploykit.base.spec import Spec
from deploykit.base.targets import ORT_CPU, WITH_LAYER_TIMES, target_of
from deploykit.base.user_cache import cache_folder, tell_unkept
from deploykit.config.build import BuildConfig
from deploykit.engines import open_runner
from deploykit.engines.onnxruntime.profile import kernel_times
from deploykit.engines.onnxruntime.session import create_session
from deploykit.engines.open import lacking
from deploykit.pruning.latency.table import LayerShape

BuildPlan = Callable[[Path, BuildConfig], Path]
SESSION_SHAPES = 24
CALLS = 21
COPIES = 8


def timing_hardware(target: str) -> Any:
    """What decides times on ``target`` here: the processor, or the names of the GPUs."""
    return cpu() if target_of(target).on_cpu else [gpu["name"] for gpu in gpus()]


def timing_versions(target: str) -> dict[str, str]:
    """Of the libraries that decide times on ``target``."""
    return library_versions(target_of(target).libraries)


def timing_of(target: str) -> tuple[dict[str, str], dict[str, object]]:
    """Versions and hardware of this machine that decide widths where they are chosen by their time on ``target``."""
    gpu = {} if target_of(target).on_cpu else {"gpus": timing_hardware(target)}
    return timing_versions(target), {"cpu": cpu(), **gpu}


def table_file(target: str, threads: int) -> Path:
    """Where the times of this machine's target are kept: by hardware, runner with version, precision and threads."""
    hardware, versions = timing_hardware(target), timing_versions(target)
    key = value_sha256([target, hardware, versions, "fp32", threads, "least of", CALLS])
    return cache_folder() / "latency" / f"{target}-{key[:16]}.json"


def known_times(path: Path) -> dict[str, float]:
    """What was measured before; a file that is not ours to read counts as none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    times = found.get("times_ms") if isinstance(found, dict) else None
    if not isinstance(times, dict):
        return {}
    return {key: float(value) for key, value in times.items() if isinstance(value, int | float) and value > 0}


def keep_times(path: Path, times_ms: dict[str, float], target: str, threads: int, progress: Progress = SILENT) -> None:
    """Write what is known, whole; where the cache takes no files, only say so."""
    fields = {
        "schema": "deploykit.latency-table/1",
        "target": target,
        "threads": threads,
        "hardware": timing_hardware(target),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**fields, "times_ms": dict(sorted(times_ms.items()))})
    except (OSError, DeploykitError) as error:
        tell_unkept(error, progress)


def measure_on(
    target: str, threads: int, progress: Progress = SILENT, build: BuildPlan | None = None
) -> Callable[[Sequence[LayerShape]], list[float]]:
    """A function that measures shapes on ``target``: fp32, batch 1, with a Relu behind them as networks have.

    On the CPU many convolutions run in one session and its profile tells the time of each kernel, without the changes
    of layout around it; that is what the same kernel takes inside a whole network. On CUDA a session runs copies of one.
    OpenVINO and TensorRT tell the time of each layer themselves, of an engine that holds one. ``build`` builds
    TensorRT's, see :func:`deploykit.pruning.latency.layer_times.open_on`.

    Raises:
        BadInput: layers cannot be measured on this target.
        Unavailable: this machine lacks the target.
    """
    if target_of(target).layer_times is None:
        raise BadInput(f"layers cannot be timed on {target}", expected=", ".join(WITH_LAYER_TIMES))
    need_target(target)

    def measure(shapes: Sequence[LayerShape]) -> list[float]:
        times: list[float] = []
        step = SESSION_SHAPES if target == ORT_CPU else 1
        with progress.task("measuring layers", len(shapes)) as bar, TemporaryDirectory(prefix="deploykit-") as scratch:
            for start in range(0, len(shapes), step):
                part = shapes[start : start + step]
                times += _timed(part, target, threads, Path(scratch), build)
                bar.advance(len(part))
        return times

    return measure


def _timed(
    part: Sequence[LayerShape], target: str, threads: int, scratch: Path, build: BuildPlan | None
) -> list[float]:
    if target == ORT_CPU:
        return _profiled(part, threads, scratch)
    if target_of(target).layer_times == "copies":
        return _copied(part[0], target, scratch)
    path = scratch / "layer.onnx"
    path.write_bytes(conv_graph(part).SerializeToString())
    return [max(layer_ms(path, target, threads, ("layer0.node", "layer0.relu"), build), 1e-4)]


def _profiled(shapes: Sequence[LayerShape], threads: int, scratch: Path) -> list[float]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_profiling, options.profile_file_prefix = True, str(scratch / "profile")
    session = ort.InferenceSession(conv_graph(shapes).SerializeToString(), options, providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(0)
    x = {
        one.name: draw.standard_normal((1, shape.c_in, *shape.in_size), dtype=np.float32)
        for one, shape in zip(session.get_inputs(), shapes, strict=True)
    }
    for _ in range(CALLS):
        session.run(None, x)
    place = Path(session.end_profiling())
    kernels = kernel_times(place, min)  # other work on the machine only ever adds
    place.unlink()
    sums = dict.fromkeys(range(len(shapes)), 0.0)
    for (name, op), time_us in kernels.items():
        if not op.startswith("Reorder"):
            sums[int(name.removeprefix("layer").partition(".")[0])] += time_us
    return [max(time_us, 0.1) / 1e3 for time_us in sums.values()]


def _copied(shape: LayerShape, target: str, scratch: Path) -> list[float]:
    path = scratch / "layer.onnx"
    path.write_bytes(conv_graph([shape] * COPIES, shared=True).SerializeToString())
    session = create_session(path, target, {"use_tf32": "0"}, None)
    x = np.random.default_rng(0).standard_normal((1, shape.c_in, *shape.in_size), dtype=np.float32)
    binding = session.io_binding()
    binding.bind_cpu_input(session.get_inputs()[0].name, x)
    for output in session.get_outputs():
        binding.bind_output(output.name, "cuda")
    times: list[float] = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        session.run_with_iobinding(binding)
        times.append((time.perf_counter() - begun) / COPIES * 1e3)
    return [min(times[1:])]


def conv_graph(shapes: Sequence[LayerShape], *, shared: bool = False) -> onnx.ModelProto:
    """Convolutions side by side, their outputs named ``layerI.out``; ``shared``: all read one input."""
    draw = np.random.default_rng(0)
    nodes, weights, inputs, outputs = [], [], [], []
    for i, shape in enumerate(shapes):
        source = "x0" if shared else f"x{i}"
        if not shared or i == 0:
            size = [1, shape.c_in, *shape.in_size]
            inputs.append(helper.make_tensor_value_info(source, TensorProto.FLOAT, size))
        weight = (shape.c_out, shape.c_in // shape.groups, *shape.kernel)
        values = draw.standard_normal(weight, dtype=np.float32) * 0.05
        weights.append(numpy_helper.from_array(values, f"w{i}"))
        weights.append(numpy_helper.from_array(np.zeros(shape.c_out, np.float32), f"b{i}"))
        nodes.append(
            helper.make_node(
                "Conv",
                [source, f"w{i}", f"b{i}"],
                [f"layer{i}.conv"],
                name=f"layer{i}.node",
                kernel_shape=shape.kernel,
                strides=shape.stride,
                pads=(*shape.padding, *shape.padding),
                dilations=shape.dilation,
                group=shape.groups,
            )
        )
        nodes.append(helper.make_node("Relu", [f"layer{i}.conv"], [f"layer{i}.out"], name=f"layer{i}.relu"))
        outputs.append(helper.make_tensor_value_info(f"layer{i}.out", TensorProto.FLOAT, None))
    graph = helper.make_graph(nodes, "layers", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def need_target(target: str) -> None:
    """Refuse a target that nothing can be timed on here, before anything is made for it.

    Raises:
        Unavailable: this machine lacks its library or its GPU.
    """
    if (why := lacking(target)) is not None:
        raise why
    if target_of(target).needs_build:
        from deploykit.engines.tensorrt.hardware import gpu

        gpu()  # TensorRT-RTX builds without one, and runs on none


def open_on(path: Path, target: str, threads: int, build: BuildPlan | None) -> Runner:
    """A runner of an fp32 ``.onnx`` on ``target``.

    ``target``: that runs it. ``build``: builds TensorRT's plan of a file for the GPU at hand and returns where it lies;
    only for such targets.

    Raises:
        AnswerNo: the builder failed.
        Unavailable: this machine lacks the target.
    """
    if not target_of(target).needs_build:
        return open_runner(Spec(path.stem, path, target), threads=threads)
    config = BuildConfig(target=target, precision="fp32", batch=1, beside="none")
    assert build is not None, f"{target} runs plans only"
    return open_runner(Spec(path.stem, build(path, config), target))


def layer_ms(path: Path, target: str, threads: int, nodes: Collection[str], build: BuildPlan | None) -> float:
    """Milliseconds that an engine of ``path`` spends in the layers made of ``nodes``, by its own profile.

    Layers that only change the layout are left out: inside a network a layer reads what the one before it wrote.

    Raises:
        AnswerNo: the engine tells no times.
        Unavailable: this machine lacks the target.
    """
    with open_on(path, target, threads, build) as runner:
        wanted = runner.inputs[0]
        x = np.random.default_rng(0).standard_normal([int(dim) for dim in wanted.shape], dtype=np.float32)
        return time_of(runner.timed_layers(x) if isinstance(runner, Profiled) else [], nodes) / 1e3


def time_of(rows: Sequence[TimedLayer], nodes: Collection[str]) -> float:
    """Microseconds of the layers that name one of ``nodes``; of all where none does (some engines rename what they fuse).

    Raises:
        AnswerNo: there are no layers.
    """
    if not rows:
        raise AnswerNo("the engine tells no times of its layers")
    own = [row for row in rows if not set(nodes).isdisjoint(row["nodes"])]
    return sum(row["time_us"] for row in own or rows)
