"""Teachers: what answers a batch, live or from what was kept of an earlier answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from deploykit.distillation.distillation_step import View
from deploykit.distillation.ensemble import as_one
from deploykit.distillation.features import Tapped


@dataclass(frozen=True)
class Moment:
    """Which pictures a batch holds.

    ``epoch``: from 0. ``indices``: int64 ``[N]``, in the split.
    """

    epoch: int
    indices: np.ndarray


class Teacher(Protocol):
    """One teacher."""

    def __call__(self, x: Tensor, moment: Moment) -> tuple[Tensor, list[Tensor]]:
        """Logits ``[N, C]`` in the order of the data's classes, and the outputs of tapped layers, for the student's ``x``."""


class ModuleTeacher:
    """A PyTorch network on the student's device.

    ``module``: in eval mode. ``view``: from the student's input to its own. ``order``: int64 ``[C]``, its output for
    each class of the data, or None. ``layers``: names of layers whose outputs are wanted. ``precision``: makes the
    context it runs in (autocast).
    """

    def __init__(
        self,
        module: nn.Module,
        view: View,
        order: np.ndarray | None,
        layers: Sequence[str] = (),
        precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.module = Tapped(module, layers).eval().requires_grad_(False)
        self.view, self.precision = view, precision
        device = next((tensor.device for tensor in module.state_dict().values()), torch.device("cpu"))
        self.order = None if order is None else torch.from_numpy(order).to(device)

    @torch.no_grad()
    def __call__(self, x: Tensor, moment: Moment) -> tuple[Tensor, list[Tensor]]:
        """Run it without gradients."""
        with self.precision():
            logits, features = self.module(self.view(x))
        logits = logits if isinstance(logits, Tensor) else logits[0]
        return (logits if self.order is None else logits[:, self.order]).float(), features


class RunnerTeacher:
    """Any engine, through arrays on the CPU.

    ``run``: from its own input to logits ``[N, C]`` in the order of the data's classes. ``view``: from the student's
    input to its own.
    """

    def __init__(self, run: Callable[[np.ndarray], np.ndarray], view: View) -> None:
        self.run, self.view = run, view

    def __call__(self, x: Tensor, moment: Moment) -> tuple[Tensor, list[Tensor]]:
        """Run it."""
        return torch.from_numpy(self.run(self.view(x).contiguous().cpu().numpy())).to(x.device), []


class PreparedTeacher:
    """The answers to all pictures of the split as they are, given before training.

    ``logits``: float32 ``[pictures, C]``, usually a memory map.
    """

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = logits

    def __call__(self, x: Tensor, moment: Moment) -> tuple[Tensor, list[Tensor]]:
        """Look the rows up."""
        return torch.from_numpy(np.array(self.logits[moment.indices])).to(x.device), []


class Teachers:
    """All teachers as one: combined logits, and the tapped layers of the first.

    ``temperature``: at which their distributions are combined.
    """

    def __init__(
        self, teachers: Sequence[Teacher], temperature: float, how: str = "average", weights: Sequence[float] = ()
    ) -> None:
        self.teachers, self.temperature, self.how, self.weights = teachers, temperature, how, weights
        self.moment: Moment | None = None

    def announce(self, epoch: int, indices: np.ndarray) -> None:
        """The pictures of the next batch."""
        self.moment = Moment(epoch, indices)

    def __call__(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Combined logits ``[N, C]`` and features for the batch that was announced."""
        assert self.moment is not None
        answers = [teacher(x, self.moment) for teacher in self.teachers]
        return as_one([logits for logits, _ in answers], self.temperature, self.how, self.weights), answers[0][1]
