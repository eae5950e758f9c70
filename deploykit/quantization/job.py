"""One quantization: what all of its steps work with, how much is tried, and where the time goes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from deploykit.base import environment
from deploykit.base.environment import cores
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.base.targets import ORT_CPU, target_of
from deploykit.config.quantize import QuantizeConfig
from deploykit.config.registries import RANGE_METHODS
from deploykit.engines import lacking
from deploykit.evaluation.graph_runner import Opened
from deploykit.quantization.calibration_images import Calibration
from deploykit.quantization.kernel_cost import cost_us
from deploykit.quantization.qdq.dialects import Dialect
from deploykit.quantization.search import Quantizer, nearness_db


@dataclass(frozen=True)
class Effort:
    """How much is tried.

    ``methods``: of ranges. ``images``: of ``select`` that choices are made on, at most. ``equalize_below_db``: nearness to
    float below which the network is equalized, where that is left to us; ``correct_below_db``: its biases are corrected.
    ``again_on``: images that an equalized network is observed on before it is taken. ``looked_at``: candidates of what
    stays float whose answers are looked at, at most. ``parts``: float sums and a float classifier are tried.
    """

    methods: tuple[str, ...]
    images: int
    equalize_below_db: float
    correct_below_db: float
    again_on: int
    looked_at: int
    parts: bool = True


EFFORTS = {
    "fast": Effort(("percentile", "moving"), 32, 5.0, -np.inf, 32, 2, parts=False),
    "normal": Effort(tuple(RANGE_METHODS), 64, 12.0, 8.0, 32, 4),
    "max": Effort(tuple(RANGE_METHODS), 128, 25.0, 25.0, 1 << 30, 8),
}


@dataclass(frozen=True)
class Seen:
    """A float network whose activations were seen.

    ``classes``: names, where known. ``quantizer``: makes any choice of it. ``pictures``: prepared images of ``select``,
    float32 [N, C, H, W]. ``x``: those that choices are made on. ``outputs``: all of the float network for ``x``. ``kept``:
    names of nodes that stay float, asked for or because of ``gap``, what the target's engine computes otherwise than
    a file says, where that was looked at (:mod:`.engine_gap`).
    """

    proto: onnx.ModelProto
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None
    quantizer: Quantizer
    pictures: np.ndarray
    x: np.ndarray
    outputs: tuple[np.ndarray, ...]
    kept: frozenset[str] = frozenset()
    gap: Mapping[str, object] | None = None


@dataclass(frozen=True)
class Job:
    """What is wanted, the images it is made with, and what runs graphs; ``opened.scratch`` is gone after it.

    ``phases``: name → seconds so far.
    """

    config: QuantizeConfig
    dialect: Dialect
    images: Calibration
    opened: Opened
    progress: Progress
    phases: dict[str, float] = field(default_factory=dict)
    _near: dict[str, float] = field(default_factory=dict)

    @property
    def scratch(self) -> Path:
        """The folder of what is needed on the way."""
        return self.opened.scratch

    @property
    def effort(self) -> Effort:
        """How much is tried."""
        return EFFORTS[self.config.effort]

    def optimized(self, graph: onnx.ModelProto | Path) -> onnx.ModelProto:
        """The graph that ONNX Runtime really runs on the dialect's ISA."""
        return self.opened.optimized(graph, as_on_arm=self.dialect.isa == "arm64")

    def costs_us(self, graphs: Mapping[str, onnx.ModelProto], x: np.ndarray) -> dict[str, float]:
        """What graphs are predicted to cost for one of the prepared images ``x`` on the dialect's ISA, in microseconds."""
        with ThreadPoolExecutor(cores()) as pool:
            optimized = pool.map(self.optimized, graphs.values())
            return {
                name: cost_us(one, self.dialect.isa, x.shape[1:]) for name, one in zip(graphs, optimized, strict=True)
            }

    def near_db(self, graphs: Mapping[str, onnx.ModelProto], seen: Seen) -> dict[str, float]:
        """How near the graphs' answers to ``seen.x`` are to the float network's, in dB; several run at once."""

        def near(proto: onnx.ModelProto) -> float:
            key = hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
            if key not in self._near:
                self._near[key] = nearness_db(seen.outputs, self.opened.outputs(proto, seen.x))
            return self._near[key]

        with ThreadPoolExecutor(cores()) as pool:
            return dict(zip(graphs, pool.map(near, graphs.values()), strict=True))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of a block to ``name``."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - before

    def say_phases(self) -> None:
        """Where the time went, in one line."""
        shown = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.phases.items())
        self.progress.say(f"{sum(self.phases.values()):.1f} s: {shown}")


@contextmanager
def graphs(config: QuantizeConfig, dialect: Dialect) -> Iterator[Opened]:
    """What runs graphs, in a folder that lives as long as the block.

    The engine of the dialect's target answers for candidates where that runs on the CPU and is installed. x86 has no kernels
    for the int8 activations of Arm: there Q and DQ are computed in float.
    """
    kernels = dialect.costed and (dialect.isa == environment.isa() or dialect.isa != "arm64")
    own = target_of(dialect.target).on_cpu and lacking(dialect.target) is None
    with TemporaryDirectory(prefix="deploykit-") as scratch:
        yield Opened(
            Path(scratch),
            threads=config.threads,
            stated=config.stated,
            integer_kernels=kernels,
            engine=dialect.target if own else ORT_CPU,
        )
