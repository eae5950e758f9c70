"""What the doctor looks at: here, and by probes in processes of their own: ``python -m deploykit.commands.doctor_probes NAME``.

A library that hangs, crashes or prints while it is imported takes only its probe with it. The last line on stdout is
the answer: a JSON object with ``ok``, ``detail`` and ``fix``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypedDict

from deploykit.base.environment import cpu, gpus, memory_bytes
from deploykit.base.targets import (
    OPENVINO,
    ORT_CPU,
    ORT_CUDA,
    ORT_TRT,
    TARGETS,
    TENSORRT,
    TENSORRT_RTX,
    TORCH_COMPILE,
    TORCH_EAGER,
    target_names,
    target_of,
)

PROBE_LIMIT_S = 180.0
LEAST_PYTHON = (3, 11)
LEAST_DISK_BYTES = 2 << 30


class Answer(TypedDict):
    """Whether it works, what there is to say, and the mend where it does not."""

    ok: bool
    detail: str
    fix: str | None


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
    return _provider(ORT_CUDA)


def ort_tensorrt() -> Answer:
    """The TensorRT provider's library loads."""
    return _provider(ORT_TRT)


def _provider(target: str) -> Answer:
    from deploykit.engines.onnxruntime.providers import missing_library

    provider = str(target_of(target).provider)
    reason = missing_library(provider)
    return _answer(True, f"{provider} loads") if reason is None else _answer(False, reason, _mend(target))


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
    return _tensorrt(TENSORRT, ("libnvinfer.so.11", "libnvinfer.so.10"))


def tensorrt_rtx() -> Answer:
    """TensorRT-RTX: looked up, and its library loaded."""
    return _tensorrt(TENSORRT_RTX, ("libtensorrt_rtx.so.1",))


def _tensorrt(target: str, libraries: tuple[str, ...]) -> Answer:
    import ctypes
    import importlib.util
    from importlib import metadata
    from pathlib import Path

    package, fix = target_of(target).libraries[0], _mend(target)
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


def _other(name: str) -> Answer:
    """A target of another package: what it lacks here, in its own words."""
    from deploykit.engines import lacking

    found = lacking(name)
    return _answer(True, "nothing is lacking") if found is None else _answer(False, found.line(), found.fix)


def _mend(target: str) -> str:
    return f"{target_of(target).install}."


PROBES: dict[str, tuple[Callable[[], Answer], str]] = {
    "torch": (torch_and_torchvision, _mend(TORCH_EAGER)),
    "torch-cuda": (torch_cuda, "Install the NVIDIA driver."),
    TORCH_COMPILE: (torch_compile, _mend(TORCH_COMPILE)),
    ORT_CPU: (ort_cpu, _mend(ORT_CPU)),
    ORT_CUDA: (ort_cuda, _mend(ORT_CUDA)),
    ORT_TRT: (ort_tensorrt, _mend(ORT_TRT)),
    "cuda-libraries": (cuda_libraries, "pip install 'onnxruntime-gpu[cuda,cudnn]'."),
    TENSORRT: (tensorrt, _mend(TENSORRT)),
    TENSORRT_RTX: (tensorrt_rtx, _mend(TENSORRT_RTX)),
    OPENVINO: (openvino, _mend(OPENVINO)),
    "timm": (timm, "pip install 'deploykit[timm]'."),
}
"""name → the probe, and the mend where importing alone fails."""


def probes() -> dict[str, tuple[Callable[[], Answer], str | None]]:
    """All probes: :data:`PROBES`, and one for each target of another package."""
    others = {name: (partial(_other, name), None) for name in target_names() if name not in TARGETS}
    return {**PROBES, **others}


def run_probe(name: str) -> Answer:
    """The answer of one probe; whatever it raises is its answer."""
    probe, fix = probes()[name]
    try:
        return probe()
    except Exception as error:  # a broken library may raise anything
        return _answer(False, f"{type(error).__name__}: {error}", fix)


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes:
        name: what ``--require`` takes.
        ok: whether it works here.
        detail: what was found, or why it does not work.
        fix: the mend, where it does not.
    """

    name: str
    ok: bool
    detail: str
    fix: str | None = None


def probe(name: str, limit_s: float = PROBE_LIMIT_S) -> Check:
    """Run one probe in a process of its own; a crash or hang is its answer."""
    fix = probes()[name][1]
    command = [sys.executable, "-m", "deploykit.commands.doctor_probes", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False, errors="replace")
    except subprocess.TimeoutExpired:
        return Check(name, False, f"it did not answer within {limit_s:g} s", fix)
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        return Check(name, bool(answer["ok"]), str(answer["detail"]), answer["fix"])
    except (ValueError, IndexError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
        return Check(name, False, f"the probe ended with code {done.returncode}: {last}", fix)


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= LEAST_PYTHON
    return Check("python", ok, version, None if ok else "Use Python 3.11 or newer.")


def _machine() -> Check:
    found = cpu()
    isa = ", ".join(found["isa"]) or "no int8 instructions"
    return Check("machine", True, f"{found['model']}, {found['cores']} cores, {isa}, {memory_bytes() / 2**30:.0f} GiB")


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    ok = free >= LEAST_DISK_BYTES
    detail = f"{free / 2**30:.1f} GiB free here"
    return Check("disk", ok, detail, None if ok else "Free some space: models, exports and stores need 2 GiB or more.")


def _gpu() -> Check:
    found = gpus()
    if found:
        shown = [f"{one['name']}, driver {one['driver']}, sm {one['compute_capability']}" for one in found]
        return Check("gpu", True, "; ".join(shown))
    why = "nvidia-smi is not installed" if shutil.which("nvidia-smi") is None else "nvidia-smi finds no GPU"
    return Check("gpu", False, why, "Install the NVIDIA driver, if there is a GPU.")


def _compiler() -> Check:
    from deploykit.engines.torch.compile import compiler

    found = compiler()
    if found is None:
        return Check("compiler", False, "no C++ compiler is found", "Install one: apt-get install g++.")
    return Check("compiler", True, Path(found).name)


def _onnxruntime_packages() -> Check:
    """Two ONNX Runtimes share one folder, and the one installed last breaks the other."""
    from deploykit.engines.onnxruntime.providers import packages

    found = packages()
    mend = "pip uninstall -y " + " ".join(one.split()[0] for one in found) + ", then install only one of them again."
    if len(found) > 1:
        return Check("onnxruntime-packages", False, f"{' and '.join(found)} share one folder", mend)
    if not found:
        return Check("onnxruntime-packages", False, "none is installed", "pip install onnxruntime-gpu or onnxruntime.")
    return Check("onnxruntime-packages", True, found[0])


LOCAL: dict[str, Callable[[], Check]] = {
    "python": _python,
    "machine": _machine,
    "disk": _disk,
    "gpu": _gpu,
    "compiler": _compiler,
    "onnxruntime-packages": _onnxruntime_packages,
}
"""name → what is looked at in this process."""


def names() -> list[str]:
    """Everything that is looked at."""
    return [*LOCAL, *probes()]


if __name__ == "__main__":
    print("\n" + json.dumps(run_probe(sys.argv[1])), flush=True)
