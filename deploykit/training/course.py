"""How far a training run has come, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deploykit.base.errors import AnswerNo

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Course:
    """How far the run has come; everything but tensors that a resumed run needs.

    Attributes:
        epoch: the current one, from 0.
        step: batches done in it.
        losses: mean training loss of each finished epoch.
        top1: on ``select`` after each finished epoch; None where there are no such pictures.
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
    loss_sum: float = 0.0
    images: int = 0
    train_s: float = 0.0
    total_s: float = 0.0
    threads: int = 1

    @property
    def best(self) -> int:
        """The epoch (from 0) whose weights are kept: best on ``select``, of equals the last; −1 before the first."""
        found = -1
        for epoch, top1 in enumerate(self.top1):
            if found < 0 or top1 is None or top1 >= (self.top1[found] or 0.0):
                found = epoch
        return found

    @property
    def stale(self) -> int:
        """Finished epochs since ``select`` was last better than ever before."""
        top1 = [value or 0.0 for value in self.top1]
        return len(top1) - 1 - top1.index(max(top1)) if top1 else 0


@dataclass(frozen=True)
class Outcome:
    """What a training run ends with.

    Attributes:
        tensors: state dict of the best epoch, on the CPU.
        ema: its moving average, or None.
        course: how it went.
    """

    tensors: dict[str, Tensor]
    ema: dict[str, Tensor] | None
    course: Course


class Diverged(AnswerNo):
    """The loss became NaN or infinite.

    Args:
        epoch: from 1.
        step: from 1, in that epoch.
        kept: the best epoch before, or None.
    """

    def __init__(self, epoch: int, step: int, kept: Outcome | None) -> None:
        self.kept = kept
        super().__init__(
            f"the loss became NaN or infinite in epoch {epoch}, step {step}",
            fix="Lower --lr, add --warmup-epochs 1 or --clip-norm 1.",
        )
