"""Outputs of named layers beside a network's own output, and the learned projections of hints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deploykit.base.errors import BadInput, nearest


class Tapped(nn.Module):
    """A network that also returns what some of its layers gave.

    Args:
        module: the network.
        layers: names as in ``module.named_modules()``.

    Raises:
        BadInput: a name the network does not have (the nearest one is suggested).
    """

    def __init__(self, module: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        check_layers(module, layers)
        self.module, self.layers = module, tuple(layers)

    def forward(self, x: Tensor) -> tuple[Any, list[Tensor]]:
        """The network's output, and the layers' outputs in the order of their names."""
        taken: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
                taken[name] = output

            return hook

        handles = [self.module.get_submodule(name).register_forward_hook(keep(name)) for name in self.layers]
        try:
            output = self.module(x)
        finally:
            for handle in handles:
                handle.remove()
        return output, [_tensor(taken, name) for name in self.layers]


def _tensor(taken: dict[str, Tensor], name: str) -> Tensor:
    if not isinstance(taken.get(name), Tensor):
        got = "nothing: it does not run" if name not in taken else type(taken[name]).__name__
        raise BadInput(f"the layer {name} cannot be matched", got=got, expected="one tensor")
    return taken[name]


def check_layers(module: nn.Module, layers: Sequence[str], whose: str = "the network") -> None:
    """Refuse names that are no layers of ``module``.

    Raises:
        BadInput: with the nearest name, or some of them.
    """
    known = [name for name, _ in module.named_modules() if name]
    for name in layers:
        if name not in known:
            close = nearest(name, known)
            shown = ", ".join(known[:: max(1, len(known) // 8)][:8])
            raise BadInput(
                f"{whose} has no layer {name!r}",
                expected=None if close else f"one of its {len(known)} layers ({shown} …)",
                fix=f"Did you mean {close!r}?" if close else None,
            )


class TappedStudent(nn.Module):
    """The student, its tapped layers, and a projection for each: what is trained when layers are matched.

    In training it returns ``(output, [projected layer outputs])``, else the student's own output, so that it is judged
    as the student alone. The projections are thrown away afterwards.

    Args:
        student: the network.
        layers: names of its layers.
        projections: one per layer: the identity, or a learned regressor to the teacher's channels.
    """

    def __init__(self, student: nn.Module, layers: Sequence[str], projections: Sequence[nn.Module]) -> None:
        super().__init__()
        self.student, self.projections = student, nn.ModuleList(projections)
        self.layers = tuple(layers)

    def forward(self, x: Tensor) -> Any:
        """See the class."""
        if not self.training:
            return self.student(x)
        output, features = Tapped(self.student, self.layers)(x)
        return output, [one(taken) for one, taken in zip(self.projections, features, strict=True)]


def projection(student: Tensor, teacher: Tensor) -> nn.Module:
    """The regressor from a student's layer to a teacher's: a 1×1 convolution, or a linear layer for vectors.

    Romero et al. 2015 use a convolution that also fits the size; here sizes are matched by averaging.

    Args:
        student: an output of the layer, ``[N, C, H, W]`` or ``[N, D]``.
        teacher: likewise.

    Raises:
        BadInput: one is a map and the other a vector, or neither.
    """
    if student.ndim != teacher.ndim or student.ndim not in (2, 4):
        raise BadInput(
            "the layers cannot be matched",
            got=f"outputs of shape {list(student.shape)} and {list(teacher.shape)}",
            expected="two maps [N, C, H, W], or two vectors [N, D]",
        )
    if student.shape[1] == teacher.shape[1]:
        return nn.Identity()
    if student.ndim == 2:
        return nn.Linear(student.shape[1], teacher.shape[1])
    made = nn.Conv2d(student.shape[1], teacher.shape[1], 1, bias=False)
    nn.init.kaiming_normal_(made.weight, mode="fan_out")
    return made


@torch.no_grad()
def outputs_of(module: nn.Module, layers: Sequence[str], size: tuple[int, int]) -> list[Tensor]:
    """What ``layers`` give for one blank picture of ``size``, in eval mode."""
    training = module.training
    module.eval()
    try:
        device = next((tensor.device for tensor in module.state_dict().values()), torch.device("cpu"))
        features: list[Tensor] = Tapped(module, layers)(torch.zeros(1, 3, *size, device=device))[1]
        return features
    finally:
        module.train(training)
