"""The protocol of one loaded engine. Evaluation, verification and benchmarks know only this."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

    from deploykit.base.preprocessing import Preprocessing

from dataclasses import dataclass


@dataclass(frozen=True)
class TensorSpec:
    """What an engine declares of one input or output.

    Attributes:
        name: in the engine.
        dtype: numpy name, ``float32`` or ``uint8`` for pictures.
        shape: with a string (``batch``) where a dimension is dynamic.
        layout: ``NCHW``, ``NHWC``, ``NC``, or None where it is none of these.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    layout: str | None = None

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size the engine takes, or None where it is dynamic."""
        return self.shape[0] if self.shape and isinstance(self.shape[0], int) else None


@runtime_checkable
class Runner(Protocol):
    """One loaded engine: ``with open_runner(spec) as r: logits = r(x)``.

    ``r(x)`` takes exactly what ``inputs[0]`` declares (float32 NCHW normalised, or uint8 NHWC where preprocessing is
    inside) and returns a new float32 array ``[N, C]`` for classifiers (the raw first output otherwise).
    """

    target: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: Preprocessing | None
    classes: tuple[str, ...] | None
    precision: str
    device: str
    threads: int | None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Run one batch ``x`` and return the first output as float32."""

    def run_all(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Run one batch and return every output by name (segmentation, detection)."""

    def close(self) -> None:
        """Free the engine; calling it twice is harmless."""

    def __enter__(self) -> Self:
        """The runner itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""


@runtime_checkable
class Ranged(Protocol):
    """What a runner offers besides where its engine takes some batch sizes only (TensorRT's optimization profiles).

    Attributes:
        batch_ranges: smallest, best served and largest batch size of each profile.
    """

    batch_ranges: tuple[tuple[int, int, int], ...]


def fed_batch(runner: Runner, wanted: int) -> int | None:
    """The batch size that every call must have, the last one filled up; None: any size goes.

    Args:
        runner: an open engine.
        wanted: pictures a call, where the engine takes them; else the nearest that it takes.
    """
    if (fixed := runner.inputs[0].fixed_batch) is not None:
        return fixed
    if not isinstance(runner, Ranged) or not runner.batch_ranges:
        return None
    nearest = (min(max(wanted, low), high) for low, _, high in runner.batch_ranges)
    return min(nearest, key=lambda size: abs(size - wanted))


@runtime_checkable
class DeviceTimed(Protocol):
    """What a runner offers besides where its device has a clock of its own (CUDA events)."""

    def prebound_on_device(self, x: np.ndarray) -> Callable[[], float] | None:
        """As ``prebound``: a call that runs ``x``, which lies on the device, and waits for the answer; it returns the
        milliseconds between two events recorded on the device's stream around the run. None where this engine cannot.
        """
