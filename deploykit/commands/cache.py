"""List and clean what runs have stored: the stores of run folders, and the user's cache of hashes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploykit.base.atomic import JsonObject
from deploykit.base.command_result import Result
from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.base.stored_results import StoredResult, find_stores, results_of_store, results_of_user_cache
from deploykit.config.cache import CacheConfig
from deploykit.config.keywords import by_keywords


@dataclass(frozen=True)
class CacheResult(Result):
    """What was found and what became of it."""

    action: str
    folder: Path
    rows: tuple[StoredResult, ...]
    real: bool

    def to_dict(self) -> JsonObject:
        """JSON-able, for ``--json``."""
        rows = [
            {
                "place": row.place.as_posix(),
                "stage": row.stage,
                "size_bytes": row.size_bytes,
                "age_s": round(row.age_s),
                "used": row.used,
                "removed": row.removed and self.real,
            }
            for row in self.rows
        ]
        return {"action": self.action, "folder": self.folder.as_posix(), "entries": rows, "removed": self.real}

    def summary(self) -> str:
        """A table for people."""
        if not self.rows:
            return f"No stored results below {self.folder.resolve().name}/"
        shown = self.rows if self.action == "list" else [row for row in self.rows if row.removed]
        lines = [
            f"{row.size_bytes / 1e6:9.2f} MB  {_age(row.age_s):>8}  {'in use' if row.used else 'old':6}"
            f"  {row.stage:16}  {row.place}"
            for row in shown
        ]
        total = sum(row.size_bytes for row in shown) / 1e6
        if self.action == "list":
            return "\n".join(
                [*lines, f"{total:9.2f} MB in {len(shown)} results. `deploykit cache clean` removes old ones."]
            )
        verb = "Removed" if self.real else "Would remove"
        hint = "" if self.real or not shown else " Add --yes to do it."
        return "\n".join([*lines, f"{verb} {len(shown)} of {len(self.rows)} results, {total:.2f} MB.{hint}"])


@by_keywords(CacheConfig)
def cache(folder: Path | str = ".", config: CacheConfig | None = None, *, progress: Progress = SILENT) -> CacheResult:
    """List the stores below ``folder`` and the user's cache, or remove results that no run folder uses now.

    Only folders with the mark of a deploykit store are touched, and of these only entries that are ours; a store whose
    run is at work is left alone.

    Args:
        folder: where run folders lie, at any depth.
        config: what to do.
        progress: where it tells what it leaves alone.

    Raises:
        BadInput: the folder does not exist.
    """
    config = config or CacheConfig()
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"the folder {folder} does not exist", fix="Name the folder that holds your runs.")
    real = config.action == "clean" and config.yes

    def goes(used: bool, age_s: float) -> bool:
        old = config.older_than_s is None or age_s >= config.older_than_s
        return config.action == "clean" and old and (config.everything or not used)

    rows = [row for root in find_stores(folder) for row in results_of_store(root, goes, remove=real, progress=progress)]
    rows += results_of_user_cache(goes, remove=real)
    return CacheResult(config.action, folder, tuple(rows), real)


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
