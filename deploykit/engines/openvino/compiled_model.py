"""Reading a model and compiling it for the CPU, with what decides speed and numbers pinned."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from deploykit.base.errors import BadInput, Unavailable
from deploykit.base.targets import OPENVINO, target_of
from deploykit.engines.inputs import refuse_options, switch, unsupported

OPTIONS = {
    "precision": "f32 (default), bf16 or f16: what float layers compute in, where the CPU has it",
    "pinning": "1: threads stay on their cores (for a machine of one's own)",
}
_NO_RULE = re.compile(r"No conversion rule found for operations: (.+)")
TYPES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}
MEND = f"{target_of(OPENVINO).install}."


@cache
def library() -> Any:
    """The ``openvino`` module, imported without its telemetry package, which would write into the home folder and call home.

    Raises:
        Unavailable: it is not installed, or does not load.
    """
    there = "openvino_telemetry" in sys.modules
    if not there:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # openvino then takes its own stub
    try:
        import openvino
    except ImportError as error:
        raise Unavailable(f"{OPENVINO} cannot run here: {error}", fix=MEND) from error
    finally:
        if not there:
            del sys.modules["openvino_telemetry"]
    return openvino


@cache
def core() -> Any:
    """The one Core of this process."""
    found = library().Core()
    if "CPU" not in found.available_devices:
        raise Unavailable(f"{OPENVINO} cannot run here: it has no CPU plugin", fix=MEND)
    return found


def inference_precision(options: dict[str, str]) -> str:
    """``f32``, ``bf16`` or ``f16``.

    Raises:
        BadInput: an unknown option or value.
    """
    refuse_options(options, OPTIONS, OPENVINO)
    wanted = options.get("precision", "f32")
    if wanted not in TYPES:
        raise BadInput("option precision", got=repr(wanted), expected=", ".join(TYPES))
    return wanted


def read(path: Path) -> Any:
    """The model of an ``.onnx`` or ``.xml`` file (whose weights lie in a ``.bin`` beside it).

    Raises:
        BadInput: empty, damaged, its weights missing, or with operators OpenVINO does not know.
    """
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty", expected="an ONNX or OpenVINO model")
    if path.suffix.lower() == ".xml" and not path.with_suffix(".bin").is_file():
        raise BadInput(f"{path} lacks its weights", expected=f"{path.with_suffix('.bin').name} beside it")
    try:
        return core().read_model(str(path))
    except RuntimeError as error:
        if (found := _NO_RULE.search(str(error))) is not None:
            ops = [one.strip().rpartition("-")[0] or one.strip() for one in found.group(1).split(",")]
            raise unsupported(path, [one.rpartition(".")[2] for one in ops], "OpenVINO") from error
        raise BadInput(
            f"{path} cannot be read by OpenVINO: {_short(error)}", fix="Export it again, or run deploykit inspect."
        ) from error


def compiled(
    model: Any,
    shapes: Sequence[tuple[int, ...]],
    options: dict[str, str],
    threads: int | None,
    path: Path,
    *,
    profile: bool = False,
) -> Any:
    """``model`` compiled for inputs of exactly ``shapes``, one for each input in order: static shapes are faster than dynamic ones.

    One stream, latency as the goal, threads as asked for and not pinned to cores, float layers in the precision of
    ``options``. With ``profile`` the time of each layer is kept, which takes time itself.

    Raises:
        BadInput: the graph does not take these shapes, or cannot be compiled.
        Unavailable: this CPU does not compute in the precision asked for.
    """
    import openvino.properties as properties
    import openvino.properties.hint as hints

    ov = library()
    wanted = inference_precision(options)
    settings = {
        hints.inference_precision(): getattr(ov.Type, wanted),
        hints.performance_mode(): hints.PerformanceMode.LATENCY,
        hints.enable_cpu_pinning(): switch(options, "pinning", False),
        properties.num_streams(): 1,
        properties.enable_profiling(): profile,
    }
    if threads is not None:
        settings[properties.inference_num_threads()] = threads
    try:
        fresh = model.clone()
        fresh.reshape({fresh.input(place): list(shape) for place, shape in enumerate(shapes)})
        made = core().compile_model(fresh, "CPU", settings)
    except RuntimeError as error:
        told = ", ".join(str(list(shape)) for shape in shapes)
        raise BadInput(f"{path} cannot be compiled by OpenVINO for {told}: {_short(error)}") from error
    got = made.get_property(hints.inference_precision()).get_type_name()
    if got != wanted:
        raise Unavailable(f"this CPU does not compute in {wanted}: OpenVINO took {got}", fix="Leave precision away.")
    return made


def _short(error: Exception) -> str:
    """The last line that says something: OpenVINO begins with places in its own source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '", "While validating"))]
    return (told or lines or ["no message"])[-1][:300]
