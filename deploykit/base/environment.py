"""What machine and which libraries a number came from. Never the host's name, a user's name or a path."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TypedDict

from deploykit.base.errors import Unavailable

LIBRARIES = (
    "deploykit",
    "torch",
    "torchvision",
    "timm",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt_rtx",
    "openvino",
    "numpy",
    "scipy",
    "pillow",
    "lightning-fabric",
)
MEASURED_BY = ("torch", "onnxruntime", "onnxruntime-gpu", "numpy")
"""The libraries whose versions a report's numbers depend on."""
GPU_FILES = ("nvidia*", "nvhost*", "nvgpu*", "dxg", "kfd")
_ISA = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16", "asimddp", "i8mm", "sve")


def library_versions(names: tuple[str, ...] = LIBRARIES) -> dict[str, str]:
    """Name → installed version, without importing any; a library that is not installed is left out."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@cache
def physical_cores() -> int:
    """The physical cores that this process may use: siblings count once, and a container's limit is kept to."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    shared = set()
    for number in usable:
        place = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
        shared.add(place.read_text().strip() if place.is_file() else str(number))
    limit = Path("/sys/fs/cgroup/cpu.max")
    quota, _, period = (limit.read_text() if limit.is_file() else "max 1").partition(" ")
    allowed = int(quota) // int(period) if quota.isdigit() else cores()
    return max(1, min(len(shared) or cores(), allowed))


class CpuInfo(TypedDict):
    """A CPU as reports and manifests state it: model name, cores this process may use, instruction sets."""

    model: str
    cores: int
    isa: list[str]


class GpuInfo(TypedDict):
    """An NVIDIA GPU as reports and keys state it."""

    name: str
    memory_mib: int | None
    driver: str
    compute_capability: str


class MachineInfo(TypedDict):
    """The ``environment`` of a report: without host name."""

    os: str
    python: str
    machine: str
    cpu: CpuInfo
    memory_bytes: int
    gpus: list[GpuInfo]
    libraries: dict[str, str]


@cache
def cpu() -> CpuInfo:
    """Model name, cores this process may use, and the instruction sets that matter for int8 and bf16."""
    model, flags = platform.processor() or platform.machine(), set()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            elif key.strip().lower() in ("flags", "features"):
                flags = set(value.split())
                break
    return {"model": model, "cores": cores(), "isa": [name for name in _ISA if name in flags]}


ISAS = ("avx2", "avx512", "vnni", "arm64")
"""What integer kernels are chosen by: u8·s8 products summed in pairs in int16 (avx2, avx512), in int32 (vnni), Arm's."""
_ARM = ("arm64", "aarch64", "armv8l", "armv7l")
_SUMS_IN_INT32 = ("avx512_vnni", "avx_vnni", "amx_int8")


@cache
def isa() -> str:
    """This machine's of :data:`ISAS`; an x86 without any of them counts as ``avx2``."""
    if platform.machine().lower() in _ARM:
        return "arm64"
    found = cpu()["isa"]
    if any(name in found for name in _SUMS_IN_INT32):
        return "vnni"
    return "avx512" if "avx512f" in found else "avx2"


def memory_bytes() -> int:
    """Physical memory, or this container's limit where that is smaller."""
    import psutil

    total = int(psutil.virtual_memory().total)
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    return total


def chosen_device(device: str) -> str:
    """``cpu`` or ``cuda`` for ``auto``, ``cpu`` or ``cuda``; torch is asked only where the system shows a GPU.

    Raises:
        Unavailable: ``cuda`` is asked for and there is none.
    """
    there = device != "cpu" and _gpu_may_be_there()
    if there:
        import torch

        there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise Unavailable("no CUDA GPU can be used", fix="`deploykit doctor` tells why; or pass --device cpu.")
    return "cuda" if there else "cpu"


def _gpu_may_be_there() -> bool:
    """Whether a driver has made a device file; elsewhere than on Linux only torch can tell."""
    return platform.system() != "Linux" or any(any(Path("/dev").glob(name)) for name in GPU_FILES)


def gpus() -> list[GpuInfo]:
    """Name, memory and driver of each NVIDIA GPU as ``nvidia-smi`` tells them; empty where there is none."""
    import shutil
    import subprocess

    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.count(",") == 3]
    return [
        {
            "name": name,
            "memory_mib": int(float(memory)) if memory.replace(".", "").isdigit() else None,
            "driver": driver,
            "compute_capability": capability,
        }
        for name, memory, driver, capability in rows
    ]


def describe() -> MachineInfo:
    """This machine."""
    return {
        "os": f"{platform.system()} {platform.release()}",
        "python": ".".join(map(str, sys.version_info[:3])),
        "machine": platform.machine(),
        "cpu": cpu(),
        "memory_bytes": memory_bytes(),
        "gpus": gpus(),
        "libraries": library_versions(),
    }
