"""The state of an unfinished run, beside its output: ``model.pt`` → ``.model.pt.resume``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from deploykit.base.atomic import atomic_path
from deploykit.base.checkpoint import read_tensors, save_tensors
from deploykit.base.errors import BadInput, from_os_error
from deploykit.base.progress import SILENT, Progress

FORMAT = "deploykit.resume/1"


class ResumeFile:
    """Where the state of one run is kept.

    Args:
        output: of the run.
        key: hash of everything that decides its result; a state of another key is never gone on with.
        config: the run's plain configuration, stored to say what differs.
    """

    def __init__(self, output: Path, key: str, config: dict[str, Any]) -> None:
        self.path = output.with_name(f".{output.name}.resume")
        self.key, self.config = key, config

    def check_writable(self) -> None:
        """Find out now, not after the first epoch, whether the folder takes files.

        Raises:
            BadInput: it does not.
        """
        try:
            with tempfile.NamedTemporaryFile(dir=self.path.parent, prefix=f"{self.path.name}."):
                pass
        except OSError as error:
            error.filename = str(self.path.parent)
            raise from_os_error(error, f"cannot write into {self.path.parent}") from error

    def load(self, progress: Progress = SILENT) -> dict[str, Any] | None:
        """The stored state, or None where there is none to go on with (why is said)."""
        if not self.path.exists():
            return None
        try:
            content = read_tensors(self.path)
        except BadInput as error:
            progress.warn(f"starting over, the kept state cannot be read: {error.line()}")
            return None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            progress.warn(f"starting over, {self.path} is not a state this version can go on with")
            return None
        if content["key"] != self.key:
            progress.warn(f"starting over, {self.path.name} is the state of another run ({self._difference(content)})")
            return None
        return dict(content["state"])

    def save(self, state: dict[str, Any]) -> None:
        """Replace the stored state, whole or not at all.

        Raises:
            SystemTrouble: the disk is full, or failed; the state before stays.
        """
        content = {"format": FORMAT, "key": self.key, "config": self.config, "state": state}
        with atomic_path(self.path) as temporary:
            save_tensors(content, temporary)

    def remove(self) -> None:
        """Forget the state: the run is done."""
        self.path.unlink(missing_ok=True)

    def _difference(self, content: dict[str, Any]) -> str:
        other = content.get("config", {})
        names = [name for name in {**other, **self.config} if other.get(name) != self.config.get(name)]
        return "another " + ", ".join(names) if names else "other data, start weights or library versions"
