"""Energy meters of the machine: RAPL of the processor packages, NVML of the GPU. What has no meter is not guessed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deploykit.latency.nvml import gpu

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
