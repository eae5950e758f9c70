"""Building for ONNX Runtime and OpenVINO: the artifact is an ONNX file, with its provider's options in the manifest.

What is optimized for one machine is made when the file is opened; only what holds on every machine is written down.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from deploykit.base.artifact import Manifest, write_artifact
from deploykit.base.atomic import JsonObject
from deploykit.base.errors import AnswerNo, BadInput, Unavailable
from deploykit.base.progress import Progress
from deploykit.base.spec import Spec
from deploykit.base.targets import ORT_CUDA, ORT_TRT, target_of
from deploykit.building.engine_graph import prepared_graph

if TYPE_CHECKING:
    import onnx

    from deploykit.config.build import BuildConfig

PLAN_ONLY = (
    "refit", "strip", "version_compatible", "compute_capabilities",
)  # fmt: skip
TRT_ONLY = ("level", "workspace_mib", "sparse", "profiles")
SAME_DB = 100.0


def hardware(config: BuildConfig) -> Mapping[str, object]:
    """Nothing: the file holds on any machine."""
    return {}


def build_file(
    source: Path, target: Path, config: BuildConfig, manifest: Manifest, force: bool, progress: Progress
) -> Manifest:
    """Write the file that ``config.target`` opens, and its manifest with the provider's options, which is returned.

    Raises:
        BadInput: an option of another target.
        AnswerNo: the optimized file answers otherwise than its source.
    """
    import onnx

    refuse_foreign_options(config)
    started = time.perf_counter()
    with TemporaryDirectory(prefix="deploykit-") as scratch:
        graph = prepared_graph(source, Path(scratch), config, progress)
        made = onnx.load(str(graph.path))
        notes = list(graph.notes)
        if config.optimize != "none":
            made, said = _optimized(graph.path, made, Path(scratch), config.target)
            notes.append(said)
        _inline(made)
        facts: JsonObject = {
            "precision": "tf32" if config.precision == "tf32" else graph.precision,
            "float_precision": graph.float_precision,
            "cast": graph.cast,
            "target": config.target,
            "provider_options": provider_options(made, graph.path, config, graph.float_precision),
        }
        described = graph.described(manifest, facts)
        content = made.SerializeToString(deterministic=True)
        facts["opened"], said_opened = _opens(source, content, target, config, described, Path(scratch) / "opened")
    facts |= {"bytes": len(content), "notes": [*notes, *said_opened]}
    measured = {"build_s": round(time.perf_counter() - started, 3)}
    return write_artifact(target, content, replace(described, measured=measured))


def refuse_foreign_options(config: BuildConfig) -> None:
    """Refuse options that this target has no use for, so that none is dropped in silence.

    Raises:
        BadInput: naming the first.
    """
    row = target_of(config.target)
    with_tensorrt, on_gpu = config.target == ORT_TRT, row.provider is not None and not row.on_cpu
    foreign = [name for name in PLAN_ONLY if getattr(config, name)]
    if not with_tensorrt:
        foreign += [name for name in TRT_ONLY if getattr(config, name)]
    if config.builds > 1:
        foreign.append("builds")
    if config.hardware_compatible != "none" and not with_tensorrt:
        foreign.append("hardware_compatible")
    if config.cuda_graph and not on_gpu:
        foreign.append("cuda_graph")
    if config.optimize != "none" and row.provider is None:
        foreign.append("optimize")
    if foreign:
        flag = "--" + foreign[0].replace("_", "-").replace("profiles", "profile")
        raise BadInput(f"{config.target} has no {flag}", fix="Leave it away, or name another --target.")
    if config.precision == "tf32" and row.on_cpu:
        raise BadInput(f"{config.target} has no TF32", fix="Leave --precision away.")


def provider_options(made: onnx.ModelProto, path: Path, config: BuildConfig, rest: str) -> dict[str, str]:
    """Options of the spec that the runner takes from the manifest where the user names none.

    ``made``: the file that is written. ``path``: of it, for messages. ``rest``: precision of its float part.
    """
    options: dict[str, str] = {}
    if config.target == ORT_CUDA:
        options["use_tf32"] = "1" if config.precision == "tf32" else "0"
    if config.target == ORT_TRT:
        from deploykit.engines.onnxruntime.tensorrt_options import profile_options

        options |= profile_options(made, config.profiles)
        options["fp16"] = "1" if rest == "fp16" else "0"
        options["bf16"] = "1" if rest == "bf16" else "0"
        options["int8"] = "1" if any(node.op_type == "QuantizeLinear" for node in made.graph.node) else "0"
        given = {"level": config.level, "workspace_mib": config.workspace_mib}
        options |= {key: str(value) for key, value in given.items() if value is not None}
        options["sparse"] = "1" if config.sparse else "0"
        options["hw_compatible"] = "0" if config.hardware_compatible == "none" else "1"
    if config.cuda_graph:
        options["cuda_graph"] = "1"
    return options


def _optimized(path: Path, made: onnx.ModelProto, scratch: Path, target: str) -> tuple[onnx.ModelProto, str]:
    """The graph as ONNX Runtime's basic level leaves it: constants folded, nothing of one machine, the same answers."""
    import onnx
    import onnxruntime as ort

    place = scratch / "basic.onnx"
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.optimized_model_filepath = str(place)
    settings.log_severity_level = 4
    ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    found = onnx.load(str(place))
    foreign = sorted({node.domain for node in found.graph.node} - {node.domain for node in made.graph.node})
    if foreign:
        raise AnswerNo(f"the optimized {path} has operators of {foreign[0]}", fix="Build with --optimize none.")
    found.metadata_props.extend(one for one in made.metadata_props if one.key not in _keys(found))
    _same_answers(path, place)
    before, after = len(made.graph.node), len(found.graph.node)
    return found, f"optimized offline at level basic: {before} → {after} nodes, the same answers"


def _keys(model: onnx.ModelProto) -> set[str]:
    return {one.key for one in model.metadata_props}


def _same_answers(first: Path, second: Path) -> None:
    import onnxruntime as ort

    sessions = [ort.InferenceSession(str(one), providers=["CPUExecutionProvider"]) for one in (first, second)]
    rng = np.random.default_rng(0)
    feeds = {}
    for one in sessions[0].get_inputs():
        shape = [dim if isinstance(dim, int) else (2 if place == 0 else 64) for place, dim in enumerate(one.shape)]
        kind = {"tensor(uint8)": "uint8", "tensor(float16)": "float16"}.get(one.type, "float32")
        feeds[one.name] = (rng.random(shape) * (255 if kind == "uint8" else 1)).astype(kind)
    for a, b in zip(*(session.run(None, feeds) for session in sessions), strict=True):
        noise = float(np.square(a.astype(np.float64) - b).sum())
        signal = float(np.square(a.astype(np.float64)).sum())
        if noise > signal * 10 ** (-SAME_DB / 10):
            raise AnswerNo(f"the optimized {first} answers otherwise", fix="Build with --optimize none.")


def _inline(made: onnx.ModelProto) -> None:
    """All weights inside the one file that is written."""
    import onnx

    for tensor in made.graph.initializer:
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT
    if made.ByteSize() > (2 << 30) - 1:
        raise BadInput("the network is larger than 2 GiB, which one ONNX file cannot hold")


def _opens(
    source: Path, content: bytes, target: Path, config: BuildConfig, described: Manifest, folder: Path
) -> tuple[bool, list[str]]:
    """Whether the file opens here on its target, tried before it is written: what does not open leaves nothing behind.

    That the machine lacks the target is said, that the file is broken fails.
    """
    from deploykit.engines import open_runner

    folder.mkdir()
    place = folder / target.name
    write_artifact(place, content, described)
    try:
        with open_runner(Spec(target.stem, place, config.target), threads=1, stated=config.stated):
            return True, []
    except Unavailable as error:
        return False, [f"not opened here: {error.what}"]
    except BadInput as error:
        what = error.what.replace(str(place), str(source))
        raise BadInput(what, got=error.got, expected=error.expected, fix=error.fix) from error
