"""How an interrupted training goes on: its state beside its output (``model.pt`` → ``.model.pt.resume``), kept and taken up."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from deploykit.base.atomic import atomic_path
from deploykit.base.checkpoint import read_tensors, save_tensors
from deploykit.base.errors import AnswerNo, BadInput, from_os_error
from deploykit.base.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "deploykit.resume/1"
SAVE_EVERY_S = 30.0
"""Between two states that are kept inside an epoch; one is kept at the end of each, and when somebody asks to stop."""


class Trial(TypedDict):
    """One candidate of the range test: mean cross-entropy and top-1 on the slice of ``select`` after its steps.

    ``loss``: None: it diverged. ``losses``: of each image.
    """

    lr: float
    loss: float | None
    top1: float
    losses: list[float]


class Retry(TypedDict):
    """Training went back: in which epoch (from 1), at which rate, and the top-1 on ``select`` there (None: it diverged).

    ``to``: the epoch whose weights it went back to; 0: the network as it came.
    """

    epoch: int
    to: int
    lr: float
    top1: float | None


class Weights(TypedDict):
    """State dict of a network, on the CPU, and its moving average."""

    tensors: dict[str, Tensor]
    ema: dict[str, Tensor] | None


class RunState(TypedDict):
    """Everything that a run goes on with: state dicts, the fields of :class:`Course`, updates and tensors of the moving average."""

    course: Mapping[str, Any]
    module: dict[str, Tensor]
    optimizer: Mapping[str, Any]
    average: Mapping[str, Any] | None
    precision: Mapping[str, Any]
    best: Weights | None


class ResumeFile:
    """Where the state of one run is kept.

    ``key``: hash of everything that decides its result; a state of another key is never gone on with.
    """

    def __init__(self, output: Path, key: str, config: Mapping[str, Any]) -> None:
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

    def load(self, progress: Progress = SILENT) -> RunState | None:
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
        return content["state"]

    def save(self, state: RunState) -> None:
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

    def _difference(self, content: Mapping[str, Any]) -> str:
        other = content.get("config", {})
        names = [name for name in {**other, **self.config} if other.get(name) != self.config.get(name)]
        return "another " + ", ".join(names) if names else "other data, start weights or library versions"


@dataclass
class Course:
    """How far the run has come; everything but tensors that a resumed run needs.

    Attributes:
        epoch: the current one, from 0.
        step: batches done in it.
        losses: mean training loss of each finished epoch.
        top1: on ``select`` after each finished epoch; None where there are no such pictures.
        before: top-1 on ``select`` of the network as it came; None: it knew nothing, or there are no such images.
        lr: the peak rate; 0: not found yet.
        trials: of the range test, in order.
        retries: how often training went back to its best state and to a lower rate.
        loss_sum: of the current epoch's batches.
        images: trained on so far.
        train_s: spent on them, validation and saving left out.
        total_s: spent in all.
        threads: CPU threads.
    """

    epoch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    top1: list[float | None] = field(default_factory=list)
    before: float | None = None
    lr: float = 0.0
    trials: list[Trial] = field(default_factory=list)
    retries: list[Retry] = field(default_factory=list)
    loss_sum: float = 0.0
    images: int = 0
    train_s: float = 0.0
    total_s: float = 0.0
    threads: int = 1

    @property
    def best(self) -> int:
        """The epoch (from 0) whose weights are kept: best on ``select``, of equals the last; −1: the network as it came."""
        found, best = -1, self.before
        for epoch, top1 in enumerate(self.top1):
            if best is None or top1 is None or top1 >= best:
                found, best = epoch, top1
        return found

    @property
    def best_top1(self) -> float | None:
        """On ``select``, of the weights that are kept."""
        return self.before if self.best < 0 else self.top1[self.best]

    @property
    def stale(self) -> int:
        """Finished epochs since ``select`` was last better than ever before."""
        top1 = [value or 0.0 for value in (*([] if self.before is None else [self.before]), *self.top1)]
        return len(top1) - 1 - top1.index(max(top1)) if top1 else 0


@dataclass(frozen=True)
class Outcome:
    """What a training run ends with.

    ``tensors``: state dict of the best epoch, on the CPU. ``ema``: its moving average, or None. ``course``: how it
    went.
    """

    tensors: dict[str, Tensor]
    ema: dict[str, Tensor] | None
    course: Course


class Diverged(AnswerNo):
    """The loss became NaN or infinite.

    ``step``: from 1, in that epoch. ``kept``: the best epoch before, or None. ``at_once``: before anything was learned,
    so that no rate helps.
    """

    def __init__(self, epoch: int, step: int, kept: Outcome | None) -> None:
        self.kept, self.at_once = kept, (epoch, step) == (1, 1)
        super().__init__(
            f"the loss became NaN or infinite in epoch {epoch}, step {step}",
            fix="Look for NaN in images and weights, and at --mean and --std: nothing was learned yet."
            if self.at_once
            else "Lower --lr, add --warmup-epochs 1 or --clip-norm 1.",
        )
