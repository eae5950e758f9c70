"""fp16 beside int8: int8 is not always the faster one, so both are built, and measured where there is a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypedDict

from deploykit.base.artifact import Manifest, already_made, read_manifest, write_manifest
from deploykit.base.errors import DeploykitError
from deploykit.base.hashing import file_sha256
from deploykit.base.progress import Progress
from deploykit.base.targets import ORT_CPU

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from deploykit.base.runner import Runner
    from deploykit.building.builder import BuildFile
    from deploykit.config.build import BuildConfig

PICTURES = 32
SLOWER = "int8 is slower than fp16 on this GPU"


def beside_name(target: Path) -> Path:
    """``model.int8.engine`` → ``model.int8.fp16.engine``."""
    return target.with_name(f"{target.stem}.fp16.engine")


def wants_beside(config: BuildConfig, precision: str) -> bool:
    """Whether a plan of this precision gets one in fp16 beside it; without weights there is nothing to compare."""
    return config.beside == "fp16" and precision == "int8" and not config.strip


class Decided(TypedDict):
    """Which of an int8 and an fp16 plan is to be taken.

    ``ms``: of a call of each; None: not timed here. ``snr_db``: of each against float; None: not compared. ``pick``: None:
    undecided, or neither agrees with float.
    """

    ms: dict[str, float] | None
    snr_db: dict[str, float | None] | None
    pick: str | None
    why: str


class Beside(Decided):
    """The engine beside an int8 one: its file's name, its bytes, and which float network it was made from."""

    file: str
    bytes: int
    made_from: str


def build_beside(
    source: Path,
    target: Path,
    config: BuildConfig,
    manifest: Manifest,
    force: bool,
    progress: Progress,
    build_engine: BuildFile,
) -> Beside:
    """Build the fp16 engine beside an int8 one and name the faster that keeps its accuracy.

    ``source``: the Q/DQ file. ``target``: the int8 engine, in place. ``build_engine``: builds one plan.
    """
    place = beside_name(target)
    with TemporaryDirectory(prefix="deploykit-") as scratch:
        graph, made_from = float_source(source, Path(scratch))
        own = config.but(precision="fp16", beside="none")
        described = replace(manifest, config={**own.plain(), "made_from": made_from}, files={}, facts={})
        if not already_made(place, described.key, force=force):
            progress.say(f"fp16 beside int8: {place.name}")
            write_manifest(place, build_engine(graph, place, own, described, force, progress))
        known = read_manifest(place)
        assert known is not None
        decided = _decided(graph, {"int8": target, "fp16": place}, config, progress)
        return {"file": place.name, "bytes": known.facts["bytes"], "made_from": made_from, **decided}


def float_source(source: Path, scratch: Path) -> tuple[Path, str]:
    """The float network of a Q/DQ file: the one it was made from where that is there, else itself without Q/DQ."""
    manifest = read_manifest(source)
    for parent in manifest.parents if manifest is not None else ():
        place = source.parent / parent.path if parent.role == "model" and parent.path else None
        if place is not None and place.suffix == ".onnx" and place.is_file() and file_sha256(place) == parent.sha256:
            return place, "the float file that int8 was made from"
    import onnx

    path = scratch / f"{source.stem}.float.onnx"
    onnx.save(without_pairs(onnx.load(str(source))), str(path))
    return path, "the int8 file without its Q/DQ: weights stay rounded to int8"


def without_pairs(model: onnx.ModelProto) -> onnx.ModelProto:
    """A Q/DQ graph in float: pairs on activations are bypassed, stored integers are dequantized.

    The metadata stay; ``deploykit.precision`` becomes fp32.
    """
    import numpy as np
    import onnx
    from onnx import numpy_helper

    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    stored = {one.name: one for one in graph.initializer}
    makers = {out: node for node in graph.node for out in node.output}
    renamed: dict[str, str] = {}
    gone = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            values = numpy_helper.to_array(stored[node.input[0]]).astype(np.float32)
            scale = numpy_helper.to_array(stored[node.input[1]])
            axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
            shape = [1] * values.ndim
            if scale.ndim:
                shape[axis] = scale.size
            content = (values * scale.reshape(shape)).astype(scale.dtype)
            graph.initializer.append(numpy_helper.from_array(content, node.output[0]))
            gone.append(node)
        elif node.op_type == "DequantizeLinear":
            before = makers[node.input[0]]
            renamed[node.output[0]] = before.input[0]
            gone.append(node)
    for node in gone:
        graph.node.remove(node)
    for node in graph.node:
        for place, name in enumerate(node.input):
            while name in renamed:
                name = renamed[name]
            node.input[place] = name
    for value in graph.output:
        if value.name in renamed:
            graph.node.append(onnx.helper.make_node("Identity", [renamed[value.name]], [value.name]))
    _remove_unused(graph)
    del graph.value_info[:]
    for entry in made.metadata_props:
        if entry.key == "deploykit.precision":
            entry.value = "fp32"
    return made


def _remove_unused(graph: onnx.GraphProto) -> None:
    wanted = {value.name for value in graph.output}
    used = wanted | {name for node in graph.node if node.op_type != "QuantizeLinear" for name in node.input}
    for node in [one for one in graph.node if one.op_type == "QuantizeLinear" and not set(one.output) & used]:
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for tensor in [one for one in graph.initializer if one.name not in used]:
        graph.initializer.remove(tensor)


def _decided(graph: Path, plans: dict[str, Path], config: BuildConfig, progress: Progress) -> Decided:
    """Which of two plans is the faster that keeps its accuracy; undecided where there is no GPU to time them."""
    from deploykit.building.race import race
    from deploykit.engines.tensorrt.hardware import gpu_or_none

    if gpu_or_none(config.device) is None:
        return {"ms": None, "snr_db": None, "pick": None, "why": "undecided: there is no GPU here to time them"}
    times = race(plans, config)
    try:
        snr = _snr(graph, plans, config, progress)
    except DeploykitError as error:
        why = f"timed, but not compared with float: {error.line()}"
        return {"ms": times, "snr_db": None, "pick": None, "why": why}
    keeps = {name: ms for name, ms in times.items() if snr[name][1]}
    pick = min(keeps, key=lambda name: keeps[name], default=None)
    why = "neither agrees with float" if pick is None else f"{pick} is the faster of those that agree with float"
    if times["int8"] > times["fp16"]:
        progress.warn(SLOWER)
        why = f"{SLOWER}; {why}"
    return {"ms": times, "snr_db": {name: value for name, (value, _) in snr.items()}, "pick": pick, "why": why}


def _snr(
    graph: Path, plans: dict[str, Path], config: BuildConfig, progress: Progress
) -> dict[str, tuple[float | None, bool]]:
    """SNR against the float file on ONNX Runtime's CPU provider, and whether it is within the precision's budget."""
    from deploykit.base.spec import Spec
    from deploykit.data import synthetic_images
    from deploykit.engines import open_runner
    from deploykit.evaluation.compare_runners import parity_of

    found: dict[str, tuple[float | None, bool]] = {}
    with open_runner(Spec("float", graph, ORT_CPU), stated=config.stated) as reference:
        size = reference.preprocessing.size if reference.preprocessing is not None else (224, 224)
        pictures = synthetic_images(PICTURES, size, config.seed)
        for name, path in plans.items():
            options = {"device": str(config.device)}
            spec = Spec(name, path, config.target, options)
            with open_runner(spec, stated=config.stated, allow_code=True) as runner:  # built here and now
                found[name] = _judged(reference, runner, pictures, name, progress, parity_of)
    return found


def _judged(
    reference: Runner, runner: Runner, pictures: np.ndarray, precision: str, progress: Progress, parity_of: Any
) -> tuple[float | None, bool]:
    parity = parity_of(reference, runner, pictures, (1, 8), precision, progress, name="float")
    return parity.snr_db, parity.ok
