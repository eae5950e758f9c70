"""Eager PyTorch behind the runner protocol, for a module that is already loaded: what an export is held against."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from deploykit.base.preprocessing import Preprocessing
from deploykit.base.runner import TensorSpec
from deploykit.exporting.outputs import named_outputs, run_once

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


class ModuleRunner:
    """A module in eval mode, run eagerly in fp32 on the CPU.

    Args:
        module: takes ``[N, 3, H, W]``.
        example: one such input, to learn the outputs' names and shapes from.
        preprocessing: of its input.
        classes: names in the order of the outputs, or None.
        batch: the only batch size it takes, or None.

    Raises:
        BadInput: the module does not run on ``example``.
    """

    target, precision, device = "torch-eager", "fp32", "cpu"

    def __init__(
        self,
        module: nn.Module,
        example: Tensor,
        preprocessing: Preprocessing,
        classes: tuple[str, ...] | None = None,
        batch: int | None = None,
    ) -> None:
        self.module = module
        self.preprocessing: Preprocessing | None = preprocessing
        self.classes = classes
        self.threads: int | None = None
        first: int | str = "batch" if batch is None else batch
        self.inputs: tuple[TensorSpec, ...] = (TensorSpec("input", "float32", (first, *example.shape[1:]), "NCHW"),)
        self.outputs: tuple[TensorSpec, ...] = tuple(
            TensorSpec(name, "float32", (first, *value.shape[1:]), "NC" if value.ndim == 2 else None)
            for name, value in run_once(module, example).items()
        )

    def run_all(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Every output by name for ``x`` float32 ``[N, 3, H, W]``."""
        import torch

        with torch.inference_mode():
            return {name: value.float().numpy() for name, value in named_outputs(self.module(torch.tensor(x))).items()}

    def __call__(self, x: np.ndarray) -> np.ndarray:
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
