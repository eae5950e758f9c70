"""The NVIDIA GPUs of this machine as the driver tells them, through ``libcuda`` alone."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploykit.base.errors import Unavailable
from deploykit.base.targets import TENSORRT

if TYPE_CHECKING:
    from deploykit.engines.tensorrt.version import Api

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, …_MINOR


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    ``index``: as CUDA counts it (``CUDA_VISIBLE_DEVICES`` holds). ``compute_capability``: ``9.0``. ``memory_bytes``:
    all of it. ``cuda``: the newest CUDA that the driver serves, ``13.0``.
    """

    index: int
    name: str
    compute_capability: str
    memory_bytes: int
    cuda: str


def driver() -> Any:
    """The driver's library, started.

    Raises:
        Unavailable: there is none, it is too old or finds no GPU; the reason is the driver's own.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise Unavailable(f"no NVIDIA driver is found ({error})", fix="Install the NVIDIA driver.") from error
    if (code := library.cuInit(0)) != 0:
        raise Unavailable(f"the NVIDIA driver does not start (cuInit gives {code})", fix=_MENDS.get(code))
    return library


_MENDS = {
    100: "It finds no GPU: check nvidia-smi.",
    803: "The driver and the CUDA libraries do not fit: update the driver.",
    34: "The driver's library is a stub: install the real driver.",
}


def gpu(index: int = 0) -> Gpu:
    """The GPU of this index.

    Raises:
        Unavailable: no driver, or no GPU of that index.
    """
    library = driver()
    count, device = ctypes.c_int(), ctypes.c_int()
    library.cuDeviceGetCount(ctypes.byref(count))
    if library.cuDeviceGet(ctypes.byref(device), index) != 0:
        raise Unavailable(f"there is no GPU {index}", got=f"{count.value} GPUs", fix="Pass --gpu with another index.")
    name = ctypes.create_string_buffer(256)
    library.cuDeviceGetName(name, 256, device)
    major, minor, version = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    library.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    library.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    library.cuDriverGetVersion(ctypes.byref(version))
    memory = ctypes.c_size_t()
    library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Gpu(index, name.value.decode(), f"{major.value}.{minor.value}", memory.value, cuda)


def make_current(index: int) -> None:
    """Make a GPU this thread's: builders and runtimes take the one that is current where they are made.

    Its primary context is kept for the life of the process, as the CUDA runtime does.
    """
    library, device, context = driver(), ctypes.c_int(), ctypes.c_void_p()
    library.cuDeviceGet(ctypes.byref(device), index)
    library.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    if (code := library.cuCtxSetCurrent(context)) != 0:
        raise Unavailable(f"GPU {index} cannot be used (cuCtxSetCurrent gives {code})", fix="Check nvidia-smi.")


def gpu_or_none(index: int = 0) -> Gpu | None:
    """The GPU of this index, or None where there is none to use."""
    try:
        return gpu(index)
    except Unavailable:
        return None


def refuse_unserved(api: Api, here: Gpu | None) -> None:
    """Refuse a GPU older than the newest that the library names and not among those it names.

    Raises:
        Unavailable: naming the GPU and those that are served.
    """
    known = api.compute_capabilities()
    if here is None or not known or here.compute_capability in known:
        return
    if _order(here.compute_capability) < _order(known[-1]):
        raise Unavailable(
            f"{api.flavour.target} has no kernels for this GPU, {here.name}, of compute capability "
            f"{here.compute_capability} (it has them for {', '.join(known)})",
            fix=f"Use --target {TENSORRT}.",
        )


def _order(capability: str) -> tuple[int, ...]:
    return tuple(map(int, capability.split(".")))
