"""What this machine can do, why not, and the mend. Imports no torch: every probe is a process of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from deploykit.base.atomic import JsonObject
from deploykit.base.command_result import Result
from deploykit.base.errors import Unavailable, unknown
from deploykit.base.progress import SILENT, Progress
from deploykit.commands.doctor_probes import LOCAL, Check, names, probe, probes
from deploykit.config.doctor import DoctorConfig
from deploykit.config.keywords import by_keywords


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

    def to_dict(self) -> JsonObject:
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
    checks = [look() for look in LOCAL.values()]
    with progress.task("look", total=len(probes()), unit="probes") as task, ThreadPoolExecutor(2) as threads:
        for check in threads.map(probe, probes()):
            checks.append(check)
            task.advance(1)
    return DoctorResult(tuple(checks), require)
