"""One quantization: what all of its steps work with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from deploykit.base.progress import Progress
from deploykit.config.quantize import QuantizeConfig
from deploykit.evaluation.graph_runner import Opened
from deploykit.quantization.calibration_images import Calibration
from deploykit.quantization.kernel_cost import cost_us
from deploykit.quantization.qdq.dialects import Dialect


@dataclass(frozen=True)
class Job:
    """What is wanted, the pictures it is made with, and what runs graphs; ``opened.scratch`` is gone after it."""

    config: QuantizeConfig
    dialect: Dialect
    images: Calibration
    opened: Opened
    progress: Progress

    @property
    def scratch(self) -> Path:
        """The folder of what is needed on the way."""
        return self.opened.scratch

    def cost_us(self, proto: onnx.ModelProto, x: np.ndarray) -> float:
        """What a graph is predicted to cost for one of the prepared images ``x`` on the dialect's ISA, in microseconds."""
        return cost_us(self.opened.optimized(proto), self.dialect.isa, x.shape[1:])


@contextmanager
def graphs(config: QuantizeConfig, *, integer_kernels: bool = True) -> Iterator[Opened]:
    """What runs graphs, in a folder that lives as long as the block."""
    with TemporaryDirectory(prefix="deploykit-") as scratch:
        yield Opened(Path(scratch), threads=config.threads, size=config.size, integer_kernels=integer_kernels)
