"""What teachers answered, kept on disk, so that the same question is asked once.

The augmented picture is a function of (seed, epoch, index), so that of two runs with the same seed, as the steps of one
recipe are, the second reads what the teacher answered in the first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deploykit.base.atomic import atomic_path
from deploykit.base.errors import DeploykitError, from_os_error
from deploykit.base.hashing import value_sha256
from deploykit.base.progress import SILENT, Progress
from deploykit.base.user_cache import tell_unkept
from deploykit.distillation.teachers import Moment, Teacher

MOST_EPOCH_BYTES = 64 << 20
MOST_BYTES = 1 << 30


class RememberedTeacher:
    """A teacher whose answers to augmented pictures are kept by epoch.

    An epoch is written when all its rows are there; it lies in memory until then.

    ``folder``: where epochs are kept. ``identity``: JSON-able, of everything that decides the answers but the epoch.
    ``shape``: pictures and classes.
    """

    def __init__(
        self, live: Teacher, folder: Path, identity: object, shape: tuple[int, int], progress: Progress = SILENT
    ) -> None:
        self.live, self.folder, self.identity, self.shape, self.progress = live, folder, identity, shape, progress
        self.keeps, self.epoch = True, -1
        self.rows: np.ndarray = np.empty((0, 0), np.float32)
        self.filled = np.zeros(0, bool)

    def __call__(self, x: Tensor, moment: Moment) -> tuple[Tensor, list[Tensor]]:
        """The kept rows where all of the batch are there, else the teacher's answer."""
        if moment.epoch != self.epoch:
            self._open(moment.epoch)
        if self.filled[moment.indices].all():
            return torch.from_numpy(self.rows[moment.indices]).to(x.device), []
        logits, features = self.live(x, moment)
        self.rows[moment.indices] = logits.cpu().numpy()
        self.filled[moment.indices] = True
        if self.keeps and self.filled.all():
            self.keeps = _keep(self._path(), self.rows, self.progress)
        return logits, features

    def _path(self) -> Path:
        return self.folder / f"{value_sha256([self.identity, self.epoch])[:32]}.npy"

    def _open(self, epoch: int) -> None:
        self.epoch = epoch
        stored = _read(self._path(), self.shape)
        self.rows = np.empty(self.shape, np.float32) if stored is None else np.array(stored)
        self.filled = np.full(self.shape[0], stored is not None)


def worth_keeping(pictures: int, classes: int) -> bool:
    """Whether the answers of one epoch are few enough to be held in memory and kept."""
    return pictures * classes * 4 <= MOST_EPOCH_BYTES


def _keep(path: Path, rows: np.ndarray, progress: Progress) -> bool:
    """Write ``rows`` for later runs; whether that could be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            np.save(temporary, rows)
        forget_oldest(path.parent, MOST_BYTES)
    except (OSError, DeploykitError) as error:
        tell_unkept(error, progress)
        return False
    return True


def kept(
    folder: Path,
    identity: object,
    shape: tuple[int, int],
    answers: Callable[[], Iterable[np.ndarray]],
    progress: Progress = SILENT,
) -> np.ndarray:
    """The answers to all pictures as they are: those kept under ``identity``, else made and kept where that can be.

    ``folder``: where they are kept; what was used longest ago leaves it. ``identity``: JSON-able, of everything that
    decides them. ``shape``: pictures and classes, :func:`worth_keeping`. ``answers``: logits ``[n, C]`` batch by batch,
    in order.
    """
    path = _clean_path(folder, identity)
    stored = _read(path, shape)
    if stored is not None:
        return stored
    rows = _fill(np.empty(shape, np.float32), answers)
    _keep(path, rows, progress)
    return rows


def _clean_path(folder: Path, identity: object) -> Path:
    return folder / f"{value_sha256([identity, 'clean'])[:32]}.npy"


def _fill(rows: np.ndarray, answers: Callable[[], Iterable[np.ndarray]]) -> np.ndarray:
    done = 0
    for part in answers():
        rows[done : done + len(part)] = part
        done += len(part)
    return rows


def prepared(
    folder: Path, identity: object, shape: tuple[int, int], answers: Callable[[], Iterable[np.ndarray]]
) -> np.ndarray:
    """The answers to all pictures as they are, for one run: those in the folder already, else made, in constant memory.

    ``identity``: JSON-able, of everything that decides them. ``shape``: pictures and classes. ``answers``: logits
    ``[n, C]`` batch by batch, in order. Returns a read-only memory map, float32.

    Raises:
        SystemTrouble: the disk is full.
    """
    path = _clean_path(folder, identity)
    stored = _read(path, shape)
    if stored is not None:
        return stored
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            rows = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
            _fill(rows, answers)
            rows.flush()
            del rows
    except OSError as error:
        raise from_os_error(error, f"cannot keep the teacher's answers in {folder}") from error
    made = _read(path, shape)
    assert made is not None
    return made


def _read(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """A memory map of the file, or None where there is none of this shape; to be read is to be used."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        os.utime(path)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == shape and found.dtype == np.float32 else None


def forget_oldest(folder: Path, most_bytes: int = MOST_BYTES) -> None:
    """Remove what was used longest ago until the folder holds at most ``most_bytes``."""
    files = sorted(folder.glob("[!.]*.npy"), key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in files)
    for path in files[:-1]:
        if total <= most_bytes:
            return
        total -= path.stat().st_size
        path.unlink(missing_ok=True)
