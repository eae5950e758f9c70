"""Probes of the doctor, each run in a process of its own: ``python -m deploykit.commands.doctor_probes NAME``.

A library that hangs, crashes or prints while it is imported takes only its probe with it. The last line on stdout is
the answer: a JSON object with ``ok``, ``detail`` and ``fix``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

Answer = dict[str, Any]


def _answer(ok: bool, detail: str, fix: str | None = None) -> Answer:
    return {"ok": ok, "detail": " ".join(detail.split())[:300], "fix": fix}


def torch_and_torchvision() -> Answer:
    """Both import, and fit one another."""
    import torch
    import torchvision
    from torchvision.ops import nms

    nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    return _answer(True, f"torch {torch.__version__}, torchvision {torchvision.__version__}")


def torch_cuda() -> Answer:
    """PyTorch computes on the GPU."""
    import torch

    if torch.version.cuda is None:
        return _answer(
            False, "this PyTorch is built without CUDA", "Install the CUDA build: pip install torch torchvision."
        )
    if not torch.cuda.is_available():
        return _answer(
            False, f"built for CUDA {torch.version.cuda}, finds no GPU or driver", "Install the NVIDIA driver."
        )
    total = float(torch.ones(8, device="cuda").sum())
    return _answer(total == 8.0, f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")


def torch_compile() -> Answer:
    """What ``torch.compile`` needs is there; it is not tried, which would take half a minute."""
    from deploykit.engines.torch.compile import compiler, missing_for_compile

    missing = missing_for_compile("cpu")
    if missing is not None:
        return _answer(False, *missing)
    return _answer(True, str(compiler()).rpartition("/")[2] + " and Python.h are there")


def ort_cpu() -> Answer:
    """ONNX Runtime imports."""
    import onnxruntime

    return _answer(True, f"onnxruntime {onnxruntime.__version__}")


def ort_cuda() -> Answer:
    """The CUDA provider's library loads and there is a GPU."""
    return _provider("CUDAExecutionProvider", "Install the driver and pip install 'onnxruntime-gpu[cuda,cudnn]'.")


def ort_tensorrt() -> Answer:
    """The TensorRT provider's library loads."""
    return _provider(
        "TensorrtExecutionProvider", "pip install 'tensorrt>=10.16,<11' (this provider links TensorRT 10)."
    )


def _provider(name: str, fix: str) -> Answer:
    from deploykit.engines.onnxruntime.providers import missing_library

    reason = missing_library(name)
    return _answer(True, f"{name} loads") if reason is None else _answer(False, reason, fix)


def cuda_libraries() -> Answer:
    """The libraries that CUDA programs link, as the dynamic linker finds them after pip's are loaded."""
    import ctypes

    import onnxruntime

    from deploykit.engines.onnxruntime.providers import preload

    preload()
    version = str(getattr(onnxruntime, "cuda_version", "") or getattr(onnxruntime.capi, "cuda_version", "") or "13")
    major = version.partition(".")[0]
    names = [f"libcudart.so.{major}", f"libcublas.so.{major}", "libcudnn.so.9", "libcuda.so.1"]
    missing = []
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            missing.append(name)
    if not missing:
        return _answer(True, ", ".join(names))
    driver = "Install the NVIDIA driver" if "libcuda.so.1" in missing else ""
    pip = "pip install 'onnxruntime-gpu[cuda,cudnn]'" if missing != ["libcuda.so.1"] else ""
    return _answer(False, f"missing: {', '.join(missing)}", "; ".join(filter(None, (driver, pip))) + ".")


def tensorrt() -> Answer:
    """TensorRT 10 or 11: looked up, and its library loaded."""
    return _tensorrt("tensorrt", ("libnvinfer.so.11", "libnvinfer.so.10"), "pip install 'deploykit[trt]'.")


def tensorrt_rtx() -> Answer:
    """TensorRT-RTX: looked up, and its library loaded."""
    return _tensorrt("tensorrt_rtx", ("libtensorrt_rtx.so.1",), "pip install tensorrt_rtx.")


def _tensorrt(package: str, libraries: tuple[str, ...], fix: str) -> Answer:
    import ctypes
    import importlib.util
    from importlib import metadata
    from pathlib import Path

    if importlib.util.find_spec(package) is None:
        return _answer(False, f"the Python package {package} is not installed", fix)
    version = metadata.version(package) if package in metadata.packages_distributions() else "of unknown version"
    places = [Path(one) for one in sys.path if Path(one, f"{package}_libs").is_dir()]
    names = [str(place / f"{package}_libs" / name) for place in places for name in libraries] + list(libraries)
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return _answer(True, f"{package} {version}, {Path(name).name} loads")
    return _answer(False, f"{package} {version} is installed, but none of {', '.join(libraries)} loads", fix)


def openvino() -> Answer:
    """OpenVINO imports and has its CPU plugin."""
    from deploykit.engines.openvino.compiled_model import core, library

    core()
    return _answer(True, f"openvino {library().__version__.split('-')[0]}, CPU plugin")


def timm() -> Answer:
    """Timm imports."""
    import timm

    return _answer(True, f"timm {timm.__version__}")


PROBES: dict[str, tuple[Callable[[], Answer], str]] = {
    "torch": (torch_and_torchvision, "pip install torch torchvision (as a pair; never torch 2.13.0)."),
    "torch-cuda": (torch_cuda, "Install the NVIDIA driver."),
    "torch-compile": (torch_compile, "Install a C++ compiler (apt-get install g++ python3-dev)."),
    "ort-cpu": (ort_cpu, "pip install onnxruntime-gpu, or onnxruntime where it has no wheels."),
    "ort-cuda": (ort_cuda, "pip install 'onnxruntime-gpu[cuda,cudnn]'."),
    "ort-trt": (ort_tensorrt, "pip install 'tensorrt>=10.16,<11'."),
    "cuda-libraries": (cuda_libraries, "pip install 'onnxruntime-gpu[cuda,cudnn]'."),
    "tensorrt": (tensorrt, "pip install 'deploykit[trt]'."),
    "tensorrt-rtx": (tensorrt_rtx, "pip install tensorrt_rtx."),
    "openvino": (openvino, "pip install 'deploykit[openvino]'."),
    "timm": (timm, "pip install 'deploykit[timm]'."),
}
"""name → the probe, and the mend where importing alone fails."""


def run_probe(name: str) -> Answer:
    """The answer of one probe; whatever it raises is its answer."""
    probe, fix = PROBES[name]
    try:
        return probe()
    except Exception as error:  # a broken library may raise anything
        return _answer(False, f"{type(error).__name__}: {error}", fix)


if __name__ == "__main__":
    print("\n" + json.dumps(run_probe(sys.argv[1])), flush=True)
