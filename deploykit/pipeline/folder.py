"""The run folder: ``{report.json, report.html, report.md, samples/, logits/, artifacts/, stages/, store/, lock}``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from deploykit.base.atomic import remove_leftovers
from deploykit.base.errors import BadInput, SystemTrouble, from_os_error
from deploykit.base.progress import Progress
from deploykit.base.store import Store


class RunFolder:
    """Where everything of one run lies."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.artifacts = root / "artifacts"
        self.stages = root / "stages"
        self.measure = root / "measure"
        self.store = Store(root / "store")

    def make(self) -> None:
        """Make the folder.

        Raises:
            BadInput: the place holds something else, or cannot be written.
        """
        if self.root.is_file():
            raise BadInput(f"the run folder {self.root} is a file", fix="Choose another with -o.")
        foreign = self.root.is_dir() and any(self.root.iterdir()) and not (self.root / "lock").exists()
        if foreign:
            raise BadInput(
                f"{self.root} holds files and is no run folder of deploykit", fix="Choose another folder with -o."
            )
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            (self.root / "lock").touch()
            for folder in (self.artifacts, self.stages):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise from_os_error(error, f"cannot make the run folder {self.root}") from error

    @contextmanager
    def locked(self, *, wait: bool, progress: Progress) -> Iterator[None]:
        """Hold the folder alone; the lock of a killed run is free.

        Raises:
            SystemTrouble: another run holds it and ``wait`` is False.
        """
        lock = FileLock(self.root / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise SystemTrouble(
                    f"another run is at work in {self.root}", fix="Wait for it, or leave out --no-wait."
                ) from None
            progress.say(f"Another run is at work in {self.root}: waiting for it to end.")
            lock.acquire()
        try:
            for folder in (self.root, self.artifacts, self.stages, self.store.root):
                remove_leftovers(folder)
            yield
        finally:
            lock.release()

    def clear_measure(self) -> Path:
        """An empty folder to measure into: what a killed measurement left is removed."""
        shutil.rmtree(self.measure, ignore_errors=True)
        self.measure.mkdir()
        return self.measure

    def drop_stale(self, kept: set[str]) -> None:
        """Remove raw samples, logits and attachments that the present report does not name.

        Args:
            kept: paths relative to the run folder.
        """
        for part in ("samples", "logits", "attachments", "thumbnails"):
            for path in sorted((self.root / part).glob("*")):
                if path.is_file() and path.relative_to(self.root).as_posix() not in kept:
                    path.unlink()
