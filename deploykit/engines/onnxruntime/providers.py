"""Execution providers: whether they really load, and which library is missing when they do not."""

from __future__ import annotations

import contextlib
import ctypes
import io
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from deploykit.base import targets
from deploykit.base.errors import Unavailable
from deploykit.base.targets import ORT_CPU, ORT_CUDA, ORT_TRT, target_of

CPU, CUDA, TENSORRT = (str(target_of(name).provider) for name in (ORT_CPU, ORT_CUDA, ORT_TRT))
_LIBRARY = {CUDA: "libonnxruntime_providers_cuda.so", TENSORRT: "libonnxruntime_providers_tensorrt.so"}
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-training")
CUDA_MEND = f"{target_of(ORT_CUDA).install}, or use @{ORT_CPU}."
TRT_MEND = (
    f"This provider links TensorRT 10 (libnvinfer.so.10) and does not take 11: {target_of(ORT_TRT).install}; "
    f"for TensorRT 11 use --target {targets.TENSORRT}, deploykit's own runner."
)


def mend_of(provider: str) -> str:
    """What brings a provider."""
    return TRT_MEND if provider == TENSORRT else CUDA_MEND


@cache
def preload() -> str:
    """Load CUDA libraries that came with pip (nvidia-*) so that providers find them.

    Returns what the preloading said, for the doctor; it prints to stdout by itself, which is caught here.
    """
    import onnxruntime

    said = io.StringIO()
    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(said), contextlib.suppress(OSError, RuntimeError):
            onnxruntime.preload_dlls()
    return said.getvalue().strip()


@cache
def missing_library(provider: str) -> str | None:
    """Why a provider's library does not load on this machine, or None where it does.

    ``get_available_providers()`` lists what the wheel was built with and proves nothing, so the library itself is
    loaded: the dynamic linker names the first thing that is missing.
    """
    if provider == CPU:
        return None
    import onnxruntime

    if provider not in onnxruntime.get_available_providers():
        return two_packages() or "the installed onnxruntime was built without it"
    if sys.platform != "linux":
        return None
    preload()
    if provider == TENSORRT:
        preload_tensorrt()
    folder = Path(onnxruntime.__file__).parent / "capi"
    for name, mode in (("libonnxruntime_providers_shared.so", ctypes.RTLD_GLOBAL), (_LIBRARY[provider], 0)):
        if not (folder / name).is_file():
            return f"{name} is not in the installed onnxruntime"
        try:
            ctypes.CDLL(str(folder / name), mode=mode)
        except OSError as error:
            return str(error).replace(str(folder) + "/", "")
    return _no_gpu()


def two_packages() -> str | None:
    """That several ONNX Runtime packages share one folder, where the one installed last has broken the other; else None."""
    found = packages()
    if len(found) < 2:
        return None
    return f"{' and '.join(found)} are installed into one folder and break each other: uninstall all, install one"


def packages() -> list[str]:
    """The ONNX Runtime packages, with their versions, that fill the folder from which it is imported."""
    by_folder: dict[str, list[str]] = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found = metadata.distribution(name)
            folder = Path(str(found.locate_file("onnxruntime"))).resolve()
            by_folder.setdefault(str(folder), []).append(f"{name} {found.version}")
    places = [str(Path(place, "onnxruntime").resolve()) for place in sys.path]
    return next((by_folder[place] for place in places if place in by_folder), [])


@cache
def preload_tensorrt() -> None:
    """Load the TensorRT 10 libraries that came with pip, so that the provider, which names them only, finds them."""
    for place in sys.path:
        folder = Path(place, "tensorrt_libs")
        for name in ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10"):
            if (folder / name).is_file():
                with contextlib.suppress(OSError):
                    ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)


def _no_gpu() -> str | None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return str(error)
    count = ctypes.c_int(0)
    if (code := driver.cuInit(0)) != 0:
        return f"the CUDA driver does not start (cuInit gives {code})"
    if driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return "the CUDA driver finds no GPU"
    return None


def need_provider(target: str) -> str:
    """The provider of a target, which loads here.

    Raises:
        Unavailable: naming the missing library.
    """
    provider = str(target_of(target).provider)
    reason = missing_library(provider)
    if reason is not None:
        raise Unavailable(f"{target} cannot run here: {provider} does not load ({reason})", fix=mend_of(provider))
    return provider
