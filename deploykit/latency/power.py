"""Energy meters of the machine: RAPL of the processor packages, NVML of the GPU. What has no meter is not guessed.

The few questions that a benchmark asks NVIDIA's management library, through ctypes: no package is needed for them.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

_NAMES = ("libnvidia-ml.so.1", "nvml.dll")
_THROTTLE = {
    0x4: "power cap",
    0x8: "hardware slow-down",
    0x20: "thermal, software",
    0x40: "thermal, hardware",
    0x80: "power brake",
}
"""Bits of nvmlClocksEventReasons that mean less speed than the clocks promise (nvml.h)."""
_SM = 1


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class _Utilization(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class Gpu:
    """One GPU; every answer is None where the driver does not give it."""

    def __init__(self, library: Any, handle: ctypes.c_void_p) -> None:
        self._library, self._handle = library, handle

    def _ask(self, function: str, kind: Any, *arguments: Any) -> Any:
        asked = getattr(self._library, function, None)
        value = kind()
        if asked is None or asked(self._handle, *arguments, ctypes.byref(value)) != 0:
            return None
        return value

    def used_bytes(self) -> int | None:
        """Memory in use by everyone."""
        found = self._ask("nvmlDeviceGetMemoryInfo", _Memory)
        return None if found is None else int(found.used)

    def energy_mj(self) -> float | None:
        """Energy drawn since the driver was loaded."""
        found = self._ask("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)
        return None if found is None else float(found.value)

    def busy_share(self) -> float | None:
        """Share of the last moments in which a kernel ran, 0…1."""
        found = self._ask("nvmlDeviceGetUtilizationRates", _Utilization)
        return None if found is None else found.gpu / 100

    def clock_mhz(self) -> int | None:
        """Clock of the multiprocessors now."""
        found = self._ask("nvmlDeviceGetClockInfo", ctypes.c_uint, _SM)
        return None if found is None else int(found.value)

    def throttled_by(self) -> list[str]:
        """Why the clock is held down just now."""
        found = self._ask("nvmlDeviceGetCurrentClocksEventReasons", ctypes.c_ulonglong)
        if found is None:
            found = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", ctypes.c_ulonglong)
        return [] if found is None else [name for bit, name in _THROTTLE.items() if found.value & bit]


@cache
def gpu() -> Gpu | None:
    """The GPU that CUDA calls device 0, or None without driver or GPU."""
    library = None
    for name in _NAMES:
        try:
            library = ctypes.CDLL(name)
            break
        except OSError:
            continue
    if library is None or library.nvmlInit_v2() != 0:
        return None
    handle = ctypes.c_void_p()
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        found = library.nvmlDeviceGetHandleByUUID(first.encode(), ctypes.byref(handle))
    elif first.isdigit():
        found = library.nvmlDeviceGetHandleByIndex_v2(int(first), ctypes.byref(handle))
    else:
        return None
    return Gpu(library, handle) if found == 0 else None


POWERCAP = Path("/sys/class/powercap")


class Meters:
    """All meters that can be read here; idle draw counts, and so does what others do meanwhile.

    Args:
        root: of the kernel's powercap tree.
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        self.names: list[str] = []
        self._read: list[tuple[Callable[[], float | None], float]] = []
        for zone in sorted(root.glob("intel-rapl:[0-9]*")) if root.is_dir() else []:
            if zone.name.count(":") == 1 and (read := _rapl(zone)) is not None:
                self.names.append((zone / "name").read_text().strip())
                self._read.append((read, _number(zone / "max_energy_range_uj") or 0.0))
        card = gpu()
        if card is not None and card.energy_mj() is not None:
            self.names.append("gpu")
            self._read.append((card.energy_mj, 0.0))

    def now(self) -> list[float | None]:
        """The counters in mJ; hand them to :meth:`since`."""
        return [read() for read, _ in self._read]

    def since(self, before: list[float | None]) -> float | None:
        """Energy in mJ drawn since ``before``, a counter that began anew included; None without meters."""
        if not self._read:
            return None
        total = 0.0
        for (read, wraps_uj), start in zip(self._read, before, strict=True):
            end = read()
            if end is None or start is None:
                return None
            total += end - start if end >= start else end - start + wraps_uj / 1e3
        return total if total >= 0 else None


def _rapl(zone: Path) -> Callable[[], float | None] | None:
    """How to read a package's counter in mJ; None where only root may."""

    def read() -> float | None:
        found = _number(zone / "energy_uj")
        return None if found is None else found / 1e3

    return read if read() is not None and (zone / "name").is_file() else None


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None
