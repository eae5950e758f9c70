"""A loaded module behind the runner protocol, what an export is held against: one picture tensor in, named tensors out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.runner import Feed
from deploykit.base.spec import Spec
from deploykit.base.targets import REFERENCE
from deploykit.base.task import Task
from deploykit.base.tensor_spec import TensorSpec
from deploykit.engines.inputs import check_input
from deploykit.exporting.run_failure import FAILURES, failure


def check_inputs(module: nn.Module) -> None:
    """Raise :class:`BadInput` where ``forward`` needs anything but one tensor."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [p.name for p in parameters if p.kind in kinds and p.default is inspect.Parameter.empty]
    if len(needed) > 1:
        raise BadInput(
            f"the model takes {len(needed)} inputs",
            got=", ".join(needed),
            expected="one tensor of pictures",
            fix="Wrap it in a module whose forward takes one tensor, and name that with --arch module:factory.",
        )


def fixed_batch(program: Any) -> int | None:
    """The only batch size that an ``ExportedProgram`` takes, or None where it is free."""
    names = program.graph_signature.user_inputs
    first = next(node.meta["val"].shape[0] for node in program.graph.nodes if node.name == names[0])
    return first if isinstance(first, int) else None


def named_outputs(answer: Any) -> dict[str, Tensor]:
    """The tensors of a network's answer by name: ``output``; the keys of a dictionary; ``output0`` … of a tuple.

    Raises:
        BadInput: the answer holds anything else (detections after NMS, nested containers).
    """
    if isinstance(answer, Tensor):
        return {"output": answer}
    if isinstance(answer, Mapping):
        named = {str(key): value for key, value in answer.items()}
    elif isinstance(answer, tuple | list):
        named = {f"output{i}": value for i, value in enumerate(answer)}
    else:
        raise BadInput("the model's answer is no tensor", got=type(answer).__name__, expected="tensors")
    for name, value in named.items():
        if not isinstance(value, Tensor):
            raise BadInput(
                f"the model's output {name!r} is no tensor (detections after NMS, or a nested container)",
                got=type(value).__name__,
                expected="tensors",
                fix="Export the backbone with its heads, without NMS: wrap them in a module (--arch module:factory).",
            )
    if not named:
        raise BadInput("the model answers nothing", expected="at least one tensor")
    return named


def run_once(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The named outputs for ``x`` ``[N, 3, H, W]``, computed eagerly.

    Raises:
        BadInput: the network does not take this input.
    """
    try:
        with torch.inference_mode():
            return named_outputs(module(x))
    except FAILURES as error:
        raise failure(module, x, error) from error


class ModuleRunner:
    """A module in eval mode, run eagerly in fp32 on the CPU.

    ``module``: takes ``[N, 3, H, W]``. ``example``: one such input, to learn the outputs' names and shapes from.
    ``batch``: the only batch size it takes, or None.

    Raises:
        BadInput: the module does not run on ``example``.
    """

    target, precision, device, threads = REFERENCE, "fp32", "cpu", None
    spec, notes = Spec("module", Path("module"), REFERENCE), ()

    def __init__(
        self,
        module: nn.Module,
        example: Tensor,
        preprocessing: Preprocessing,
        classes: tuple[str, ...] | None = None,
        batch: int | None = None,
        task: Task = "classify",
    ) -> None:
        self.module = module
        self.preprocessing: Preprocessing | None = preprocessing
        self.classes, self.task = classes, task
        first: int | str = "batch" if batch is None else batch
        self.inputs: tuple[TensorSpec, ...] = (TensorSpec("input", "float32", (first, *example.shape[1:]), "NCHW"),)
        self.outputs: tuple[TensorSpec, ...] = tuple(
            TensorSpec(name, "float32", (first, *value.shape[1:]), "NC" if value.ndim == 2 else None)
            for name, value in run_once(module, example).items()
        )

    def run_all(self, x: Feed) -> dict[str, np.ndarray]:
        """Every output by name for ``x`` float32 ``[N, 3, H, W]``."""
        x = check_input(x, self.inputs[0], self.target)
        with torch.inference_mode():
            return {name: value.float().numpy() for name, value in named_outputs(self.module(torch.tensor(x))).items()}

    def __call__(self, x: Feed) -> np.ndarray:
        """The first output."""
        return next(iter(self.run_all(x).values()))

    def close(self) -> None:
        """Nothing to free: the module is the caller's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
