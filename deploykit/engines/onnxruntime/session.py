"""Creating an ONNX Runtime session that is what was asked for, or an error that says in plain words why it is not."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from deploykit.base.environment import GpuInfo, gpus
from deploykit.base.errors import BadInput, Unavailable, shortened
from deploykit.base.targets import target_of
from deploykit.engines.inputs import refuse_options, switch, unsupported
from deploykit.engines.onnxruntime.providers import CPU, CUDA, TENSORRT, mend_of, need_provider
from deploykit.engines.onnxruntime.tensorrt_options import TRT_OPTIONS, alone_in_cache, provider_fields

MOST = 300
_ARGUMENTS = r"\((?:[^()]|\([^()]*\))*\)"
_NOISE = (
    r"\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"(?:/\S*/)?\w+\.(?:cc|h|cpp):\d+ (?:[A-Z]\w+ (?=[A-Z]))?",
    rf"(?:(?:void|bool|[\w:]+::[\w:<>]+)[ *&]+)?(?:\w+::)+~?\w+{_ARGUMENTS}(?: const)?:? ?",
)


def plain_words(error: object, most: int = MOST) -> str:
    """The message of an error of ONNX Runtime on one line, with neither C++ signatures nor source lines.

    ``error``: the exception, or its text. ``most``: characters; what is longer ends at a word, with an ellipsis.
    """
    text = " ".join(str(error).split())
    for noise in _NOISE:
        text = re.sub(noise, "", text)
    text = re.sub(r"failed:(?=\S)", "failed: ", text).strip()
    return shortened(text, most)


LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
CPU_OPTIONS = {
    "optimization": "none, basic, extended or all",
    "integer_kernels": "0: compute Q and DQ in float, as they stand, instead of fusing them into integer kernels",
    "spinning": "1: waiting threads spin (faster with many threads, disturbs what runs beside)",
}
CUDA_OPTIONS = {
    **CPU_OPTIONS,
    "fallback": "0: refuse a graph that needs the CPU for any node",
    "use_tf32": "0: full fp32 in convolutions and matrix products",
    "device_id": "which GPU",
    "gpu_mem_limit": "bytes of the arena",
    "arena_extend_strategy": "kNextPowerOfTwo or kSameAsRequested",
    "cudnn_conv_algo_search": "EXHAUSTIVE, HEURISTIC or DEFAULT",
    "cudnn_conv_use_max_workspace": "0 or 1",
    "prefer_nhwc": "0 or 1",
    "cuda_graph": "1: capture the whole graph once per input shape and replay it",
}
_SHARED = ("device_id", "fallback")
TRT_EP_OPTIONS = {**CPU_OPTIONS, **{name: CUDA_OPTIONS[name] for name in _SHARED}, **TRT_OPTIONS}
_SESSION_ONLY = ("optimization", "integer_kernels", "spinning", "fallback")


def options_of(target: str) -> dict[str, str]:
    """Option → what it does, of a target."""
    return {CUDA: CUDA_OPTIONS, TENSORRT: TRT_EP_OPTIONS}.get(_provider(target), CPU_OPTIONS)


def _provider(target: str) -> str:
    return str(target_of(target).provider)


def create_session(
    path: Path,
    target: str,
    options: dict[str, str],
    threads: int | None,
    *,
    optimized_to: Path | None = None,
    profile_to: Path | None = None,
) -> Any:
    """An ``onnxruntime.InferenceSession`` on the provider of ``target``.

    Threads wait without spinning unless ``spinning=1``; results are deterministic where kernels allow it.

    ``path``: of the ``.onnx``. ``target``: with a provider of ONNX Runtime. ``optimized_to``: where to write the graph
    that really runs, for audits. ``profile_to``: record a profile of every run, in a file whose name begins so.

    Raises:
        BadInput: the file is broken, too new or lacks its external data; an option is unknown or refused.
        Unavailable: the provider did not load; never a silent fall-back.
    """
    import onnxruntime as ort

    refuse_options(options, options_of(target), target)
    provider = need_provider(target)
    ort.set_default_logger_severity(4)
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.inter_op_num_threads = 1
    settings.use_deterministic_compute = True
    if threads is not None:
        settings.intra_op_num_threads = threads
    level = options.get("optimization", "all")
    if level not in LEVELS:
        raise BadInput("option optimization", got=repr(level), expected=", ".join(LEVELS))
    settings.graph_optimization_level = getattr(ort.GraphOptimizationLevel, LEVELS[level])
    if optimized_to is not None:
        settings.optimized_model_filepath = str(optimized_to)
    if profile_to is not None:
        settings.enable_profiling, settings.profile_file_prefix = True, str(profile_to)
    spinning = "1" if switch(options, "spinning", False) else "0"
    settings.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if not switch(options, "integer_kernels", True):
        settings.add_session_config_entry("session.disable_quant_qdq", "1")
    if not switch(options, "fallback", True):
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        with building(
            path, target, options
        ):  # its own fallback would print to stdout, run on the CPU and hide the cause
            providers = _providers(path, target, options)
            session = ort.InferenceSession(str(path), settings, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's errors share no base class but Exception
        raise _explained(error, path, target) from error
    session.disable_fallback()
    if session.get_providers()[0] != provider:
        raise Unavailable(
            f"{target} cannot run here: ONNX Runtime fell back to {session.get_providers()[0]}", fix=mend_of(provider)
        )
    return session


def building(path: Path, target: str, options: dict[str, str]) -> AbstractContextManager[None]:
    """Held where a provider may build into a cache that other processes read: opening a session, and its first run."""
    if _provider(target) != TENSORRT:
        return nullcontext()
    own, gpu = _own(options), _gpu_of(options)
    return alone_in_cache(path, {key: value for key, value in own.items() if key != "device_id"}, gpu)


def _own(options: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in options.items() if key not in _SESSION_ONLY}


def _gpu_of(options: dict[str, str]) -> GpuInfo | None:
    index, found = options.get("device_id", "0"), gpus()
    return found[int(index)] if index.isdigit() and int(index) < len(found) else None


def _providers(path: Path, target: str, options: dict[str, str]) -> list[tuple[str, dict[str, str]]]:
    """The provider of ``target`` with its own options; what TensorRT does not take runs on CUDA, on the same GPU."""
    own = _own(options)
    provider = _provider(target)
    if provider != TENSORRT:
        if "cuda_graph" in own:
            own["enable_cuda_graph"] = own.pop("cuda_graph")
        return [(provider, own)]
    device = {"device_id": own.pop("device_id", "0")}
    return [(provider, {**device, **provider_fields(path, own, _gpu_of(options))}), (CUDA, device)]


def ort_errors() -> tuple[type[BaseException], ...]:
    """ONNX Runtime's exception classes."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = (value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return (*found, RuntimeError, ValueError)


def _explained(error: Exception, path: Path, target: str) -> Exception:
    """The error the user should see for what ONNX Runtime said; an error of another kind is given back as it is."""
    if not isinstance(error, ort_errors()):
        return error
    text = " ".join(str(error).split())
    short = plain_words(text).rstrip(".")
    if path.stat().st_size == 0:
        return BadInput(f"{path} is empty", expected="an ONNX model")
    if "INVALID_PROTOBUF" in text or "No graph was found" in text:
        return BadInput(
            f"{path} is no ONNX model: it is no protobuf of one, or truncated", fix="Export or copy it again."
        )
    if "fallback to CPU EP has been explicitly disabled" in text:
        return BadInput(
            f"{path} cannot run on {target} alone: some nodes would run on the CPU", fix="Leave fallback=0 away."
        )
    if re.search(
        r"opset \d+ is under development|[Oo]pset .*(?:only \*?guarantees|till opset)|IR version|Unsupported model",
        text,
    ):
        return BadInput(
            f"{path} needs a newer ONNX Runtime: {short}", fix="Export with a lower --opset, or upgrade onnxruntime."
        )
    if foreign := re.findall(r"(?:No Op registered for (\w+)|(\w+)\(-?\d+\) is not a registered function/op)", text):
        foreign = [one or other for one, other in foreign]
        return unsupported(path, foreign, "ONNX Runtime")
    if lacking := re.search(r"Could not find an implementation for (\w+)\(\d+\)", text):
        return Unavailable(
            f"{target} has no kernel for {lacking.group(1)} in the precision of {path}",
            fix="Use fp16 or fp32 there; bf16 runs on GPU targets.",
        )
    if re.search(r"data size mismatch|path not allowed|escapes|External initializer.*size to read", text):
        return BadInput(f"the external data of {path} cannot be used: {short}", fix="Export or copy it again.")
    if re.search(r"[Ee]xternal|[Cc]annot (?:get file size|open file)|filesystem error|file_size", text):
        return BadInput(f"{path} lacks its external data: {short}", fix="Keep the .data file beside the .onnx.")
    if wrong := re.search(r"provider option \"(\w+)\"\W*(?:\S+\.cc:\d+ )?(?:operator\(\) )?(.*)", text):
        return BadInput(f"option {wrong.group(1)} of {target}: {wrong.group(2).rstrip('.')[:200]}")
    if re.search(r"CUDA|cuDNN|cuBLAS|GPU", text) and _provider(target) != CPU:
        return Unavailable(f"{target} cannot run here: {short}", fix=mend_of(_provider(target)))
    return BadInput(
        f"{path} cannot be loaded by ONNX Runtime: {short}", fix="Export it again, or run deploykit inspect."
    )
