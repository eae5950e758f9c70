"""Outputs of matched layers of student and teacher, and the learned projections between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deploykit.base.errors import BadInput, nearest
from deploykit.config.registries import FEATURE_LOSSES
from deploykit.models.module_outputs import input_channels
from deploykit.training.resume import Outcome


class Tapped(nn.Module):
    """A network that also returns what some of its layers gave.

    ``layers``: names as in ``module.named_modules()``.

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

    ``layers``: names of its layers. ``projections``: one per layer: the identity, or a learned regressor to the
    teacher's channels.
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

    ``student``: an output of the layer, ``[N, C, H, W]`` or ``[N, D]``.

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
        return Tapped(module, layers)(torch.zeros(1, input_channels(module), *size, device=device))[1]
    finally:
        module.train(training)


def pairs_of(layers: Sequence[str]) -> list[tuple[str, str]]:
    """``STUDENT=TEACHER`` texts, or one name for both, as pairs.

    Raises:
        BadInput: an empty name, or a layer of the student named twice.
    """
    found: list[tuple[str, str]] = []
    for text in layers:
        mine, equals, its = text.partition("=")
        if not mine or (equals and not its):
            raise BadInput(f"cannot read the layers {text!r}", expected="STUDENT=TEACHER, or one name")
        if mine in (one for one, _ in found):
            raise BadInput(f"the student's layer {mine} is named twice")
        found.append((mine, its or mine))
    return found


def check_pairs(student: nn.Module, teacher: nn.Module, layers: Sequence[str]) -> list[tuple[str, str]]:
    """:func:`pairs_of` layers that both networks have.

    Raises:
        BadInput: one does not have a layer, with the nearest name.
    """
    pairs = pairs_of(layers)
    check_layers(student, [mine for mine, _ in pairs], "the student")
    check_layers(teacher, [its for _, its in pairs], "the teacher")
    return pairs


def tapped(
    student: nn.Module, teacher: nn.Module, layers: Sequence[str], features: str, size: tuple[int, int]
) -> tuple[TappedStudent, list[str]]:
    """The student with the layers that are matched, and what was decided, for people.

    Layers whose channels differ get a learned projection, unless the loss compares maps of any channels.

    ``student``: the network that is trained. ``teacher``: the network whose layers are wanted. ``features``: one of
    :data:`deploykit.config.registries.FEATURE_LOSSES`.

    Raises:
        BadInput: a layer that one of the two does not have, or outputs that cannot be compared.
    """
    pairs = check_pairs(student, teacher, layers)
    outputs = outputs_of(student, [mine for mine, _ in pairs], size)
    wanted = outputs_of(teacher, [its for _, its in pairs], size)
    projections: list[nn.Module] = []
    notes: list[str] = []
    for (mine, its), output, target in zip(pairs, outputs, wanted, strict=True):
        if FEATURE_LOSSES.find(features).maps:
            _check_maps(mine, output.shape)
            _check_maps(its, target.shape)
            projections.append(nn.Identity())
            continue
        made = projection(output, target)
        projections.append(made)
        if not isinstance(made, nn.Identity):
            notes.append(
                f"{mine} is matched with {its} through a learned projection, {output.shape[1]} → {target.shape[1]}"
            )
    return TappedStudent(student, [mine for mine, _ in pairs], projections), notes


def _check_maps(name: str, shape: Sequence[int]) -> None:
    if len(shape) != 4 or shape[2] * shape[3] < 2:
        raise BadInput(
            f"attention is compared between maps; {name} gives none",
            got=f"an output of shape {list(shape)}",
            expected="[N, C, H, W] of two pixels or more",
            fix="Name an earlier layer, or use --features hint.",
        )


def plain(outcome: Outcome, prefix: str) -> Outcome:
    """The student's own tensors of an outcome: names lose ``prefix``, the projections are left out."""
    if not prefix:
        return outcome
    ema = None if outcome.ema is None else _below(outcome.ema, prefix)
    return Outcome(_below(outcome.tensors, prefix), ema, outcome.course)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
