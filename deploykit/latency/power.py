"""Energy meters of the machine: RAPL of the processor packages, NVML of the GPU. What has no meter is not guessed."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pynvml

_THROTTLE = {
    pynvml.nvmlClocksEventReasonSwPowerCap: "power cap",
    pynvml.nvmlClocksEventReasonHwSlowdown: "hardware slow-down",
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "thermal, software",
    pynvml.nvmlClocksEventReasonHwThermalSlowdown: "thermal, hardware",
    pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown: "power brake",
}
"""What means less speed than the clocks promise."""


class Gpu:
    """One GPU; every answer is None where the driver does not give it."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def _ask(self, question: Callable[..., Any], *arguments: int) -> Any:
        try:
            return question(self._handle, *arguments)
        except pynvml.NVMLError:
            return None

    def used_bytes(self) -> int | None:
        """Memory in use by everyone."""
        found = self._ask(pynvml.nvmlDeviceGetMemoryInfo)
        return None if found is None else int(found.used)

    def energy_mj(self) -> float | None:
        """Energy drawn since the driver was loaded."""
        found = self._ask(pynvml.nvmlDeviceGetTotalEnergyConsumption)
        return None if found is None else float(found)

    def busy_share(self) -> float | None:
        """Share of the last moments in which a kernel ran, 0…1."""
        found = self._ask(pynvml.nvmlDeviceGetUtilizationRates)
        return None if found is None else found.gpu / 100

    def clock_mhz(self) -> int | None:
        """Clock of the multiprocessors now."""
        return self._ask(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM)

    def throttled_by(self) -> list[str]:
        """Why the clock is held down just now."""
        found = self._ask(pynvml.nvmlDeviceGetCurrentClocksEventReasons)
        if found is None:  # its name before driver 535
            found = self._ask(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        return [name for bit, name in _THROTTLE.items() if (found or 0) & bit]


@cache
def gpu() -> Gpu | None:
    """The GPU that CUDA calls device 0, or None without driver or GPU."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    try:
        pynvml.nvmlInit()
        if first.startswith(("GPU-", "MIG-")):
            return Gpu(pynvml.nvmlDeviceGetHandleByUUID(first))
        return Gpu(pynvml.nvmlDeviceGetHandleByIndex(int(first))) if first.isdigit() else None
    except pynvml.NVMLError:
        return None


POWERCAP = Path("/sys/class/powercap")


class Meters:
    """All meters that can be read here; idle draw counts, and so does what others do meanwhile.

    ``root``: of the kernel's powercap tree.
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        self.names: list[str] = []
        self._read: list[tuple[Callable[[], float | None], float]] = []
        for zone in sorted(root.glob("intel-rapl:[0-9]*")) if root.is_dir() else []:
            if zone.name.count(":") == 1 and (read := _rapl(zone)) is not None:
                self.names.append((zone / "name").read_text().strip())
                self._read.append((read, number_in(zone / "max_energy_range_uj") or 0.0))
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
        found = number_in(zone / "energy_uj")
        return None if found is None else found / 1e3

    return read if read() is not None and (zone / "name").is_file() else None


def number_in(path: Path) -> float | None:
    """The number that a file of the kernel holds, or None."""
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None
