"""What this machine can do, why not, and the mend. Imports no torch: every probe is a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploykit.base.command_result import Result
from deploykit.base.environment import cpu, gpus, memory_bytes
from deploykit.base.errors import Unavailable, unknown
from deploykit.base.progress import SILENT, Progress
from deploykit.commands.doctor_probes import probes
from deploykit.config.doctor import DoctorConfig
from deploykit.config.keywords import by_keywords

PROBE_LIMIT_S = 180.0
LEAST_PYTHON = (3, 11)
LEAST_DISK_BYTES = 2 << 30
LOCAL = ("python", "machine", "disk", "gpu", "compiler", "onnxruntime-packages")


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


@dataclass(frozen=True)
class DoctorResult(Result):
    """All checks.

    Attributes:
        checks: in order.
        required: names that must be ok.
    """

    checks: tuple[Check, ...]
    required: tuple[str, ...] = ()

    @property
    def lacking(self) -> list[str]:
        """The required things that do not work."""
        return [check.name for check in self.checks if check.name in self.required and not check.ok]

    @property
    def trouble(self) -> Unavailable | None:
        """The error that names what is required and does not work, with why and the mend; None where all works."""
        lacking = [check for check in self.checks if check.name in self.lacking]
        if not lacking:
            return None
        why = "; ".join(f"{check.name} does not work here: {check.detail}" for check in lacking)
        return Unavailable(why, fix=" ".join(check.fix for check in lacking if check.fix) or None)

    @property
    def status(self) -> str:
        """``ok``, or ``unavailable`` where something required does not work."""
        return self.trouble.status if self.trouble else "ok"

    @property
    def exit_code(self) -> int:
        """0, or 4 where something required does not work."""
        return self.trouble.exit_code if self.trouble else 0

    @property
    def complaint(self) -> str:
        """What is required and does not work."""
        return self.trouble.line() if self.trouble else ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields."""
        error = {"error": self.complaint, "exit_code": self.exit_code} if self.trouble else {}
        return {
            **error,
            "checks": [asdict(check) for check in self.checks],
            "required": list(self.required),
            "lacking": self.lacking,
        }

    def summary(self) -> str:
        """One line per check, its mend below it."""
        width = max(len(check.name) for check in self.checks)
        lines = []
        for check in self.checks:
            lines.append(f"{'yes' if check.ok else 'no ':3}  {check.name.ljust(width)}  {check.detail}")
            if not check.ok and check.fix:
                lines.append(f"{'':5}{'':{width}}  → {check.fix}")
        lines += [f"required and missing: {', '.join(self.lacking)}"] if self.lacking else []
        return "\n".join(lines)


def names() -> list[str]:
    """Everything that is looked at."""
    return [*LOCAL, *probes()]


@by_keywords(DoctorConfig)
def doctor(config: DoctorConfig | None = None, *, progress: Progress = SILENT) -> DoctorResult:
    """Look at everything deploykit may use on this machine.

    Args:
        config: what must work; the result says what does not.
        progress: one bar.

    Raises:
        BadInput: a required name that is not known.
    """
    require = () if config is None else config.require
    for name in require:
        if name not in names():
            raise unknown("check", name, names())
    checks = [_python(), _machine(), _disk(), _gpu(), _compiler(), _onnxruntime_packages()]
    with progress.task("look", total=len(probes()), unit="probes") as task, ThreadPoolExecutor(2) as threads:
        for check in threads.map(probe, probes()):
            checks.append(check)
            task.advance(1)
    return DoctorResult(tuple(checks), require)


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
