"""Which layers of student and teacher are matched, and the student prepared for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from deploykit.base.errors import BadInput
from deploykit.distillation.features import TappedStudent, check_layers, outputs_of, projection
from deploykit.training.course import Outcome


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

    Layers whose channels differ get a learned projection for ``hint``; attention maps need none.

    Args:
        student: the network that is trained.
        teacher: the network whose layers are wanted.
        layers: see :func:`pairs_of`.
        features: ``attention`` or ``hint``.
        size: of the input in pixels, height and width.

    Raises:
        BadInput: a layer that one of the two does not have, or outputs that cannot be compared.
    """
    pairs = check_pairs(student, teacher, layers)
    outputs = outputs_of(student, [mine for mine, _ in pairs], size)
    wanted = outputs_of(teacher, [its for _, its in pairs], size)
    projections: list[nn.Module] = []
    notes: list[str] = []
    for (mine, its), output, target in zip(pairs, outputs, wanted, strict=True):
        if features == "attention":
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
