"""What the outputs of a network mean: its task, which a model file, ONNX metadata, manifest and runner carry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from deploykit.base.errors import BadInput, unknown

if TYPE_CHECKING:
    from deploykit.base.tensor_spec import TensorSpec

Task = Literal["classify", "none"]
"""``classify``: one logit per class, ``[N, C]``, the largest is the answer. ``none``: numbers, verified and timed only."""

TASKS: tuple[Task, ...] = get_args(Task)


def read_task(value: object, where: str) -> Task:
    """A task as a file of ours states it; one that states none is from before tasks, and classifies.

    ``where``: the file, for the message.

    Raises:
        BadInput: a task that is not known.
    """
    if value is None:
        return "classify"
    if value not in TASKS:
        raise unknown(f"task of {where}", str(value), TASKS)
    return value


def task_of_outputs(outputs: Sequence[TensorSpec]) -> Task:
    """The task of a file that states none: one output ``[N, C]`` of several logits classifies.

    Outputs that end in a Sigmoid answer several questions at once, and a single logit has no largest.
    """
    if len(outputs) != 1 or len(outputs[0].shape) != 2 or outputs[0].sigmoid or outputs[0].shape[1] == 1:
        return "none"
    return "classify"


def need_classifier(task: Task, name: str, doing: str) -> None:
    """Refuse what only a classifier can be asked for.

    ``name``: of the file or variant. ``doing``: what was asked, as a noun: ``accuracy``.

    Raises:
        BadInput: the task is ``none``.
    """
    if task != "classify":
        raise BadInput(
            f"{name} is no classifier of one label per image (task {task}), so there is no {doing}",
            fix="`deploykit verify` compares its outputs, `deploykit benchmark` times it; --task classify if it is one.",
        )
