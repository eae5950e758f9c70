"""The protocol of one loaded engine. Evaluation, verification and benchmarks know only this.

What every runner has is :class:`Runner`; what only some can do are protocols of their own, asked for by ``isinstance``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

    from deploykit.base.engine_layers import EngineAudit, EngineLayer, TimedLayer
    from deploykit.base.errors import Unavailable
    from deploykit.base.overrides import Stated
    from deploykit.base.preprocessing import Preprocessing
    from deploykit.base.spec import Spec
    from deploykit.base.task import Task
    from deploykit.base.tensor_spec import TensorSpec


Feed: TypeAlias = "np.ndarray | Mapping[str, np.ndarray]"
"""What an engine is given: the array of its only input, or every input by name."""


@runtime_checkable
class Runner(Protocol):
    """One loaded engine: ``with open_runner(spec) as r: logits = r(x)``.

    ``r(x)`` takes exactly what ``inputs[0]`` declares (float32 NCHW normalised, or uint8 NHWC where preprocessing is
    inside) and returns a new float32 array ``[N, C]`` for classifiers (the raw first output otherwise). A graph with
    several inputs takes a mapping from each one's name to its array.

    ``preprocessing``: of its input; None where nothing tells it, and a caller that knows may state it.
    """

    preprocessing: Preprocessing | None

    @property
    def spec(self) -> Spec:
        """What was opened, with its target."""

    @property
    def target(self) -> str:
        """Of the spec."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """One, the images, of what is evaluated; any number of what is only verified and timed."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """All that it answers."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Their names in the order of the first output; None where nothing tells them."""

    @property
    def task(self) -> Task:
        """What its outputs mean."""

    @property
    def precision(self) -> str:
        """What it computes in."""

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``."""

    @property
    def threads(self) -> int | None:
        """Of the CPU; None: the engine's own default, or it computes elsewhere."""

    @property
    def notes(self) -> Sequence[str]:
        """What had to be assumed."""

    def __call__(self, x: Feed) -> np.ndarray:
        """Run one batch ``x`` and return the first output as float32."""

    def run_all(self, x: Feed) -> dict[str, np.ndarray]:
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
class Audited(Protocol):
    """A runner whose engine tells what the network became."""

    def audit(self) -> EngineAudit:
        """Counts over its layers, as far as the engine tells them."""


@runtime_checkable
class Layered(Protocol):
    """A runner whose engine tells its layers without running them."""

    def layers(self) -> list[EngineLayer]:
        """In the engine's order."""


@runtime_checkable
class Profiled(Protocol):
    """A runner whose engine tells the time of each layer."""

    def timed_layers(self, x: Feed) -> list[TimedLayer]:
        """The layers for one batch ``x`` in the order they run; profiling itself takes time."""


@runtime_checkable
class Prebound(Protocol):
    """A runner that can be timed without copies and checks."""

    def prebound(self, x: Feed) -> Callable[[], None]:
        """A call that runs ``x``, which already lies in the engine's memory, and leaves the answer there.

        This is what compute time means; it returns when the answer is complete.
        """


@runtime_checkable
class DeviceTimed(Protocol):
    """A runner whose device has a clock of its own (CUDA events)."""

    def prebound_on_device(self, x: Feed) -> Callable[[], float] | None:
        """As ``prebound``: a call that runs ``x``, which lies on the device, and waits for the answer; it returns the
        milliseconds between two events recorded on the device's stream around the run. None where this engine cannot.
        """


@runtime_checkable
class Ranged(Protocol):
    """A runner whose engine takes some batch sizes only (TensorRT's optimization profiles)."""

    @property
    def batch_ranges(self) -> tuple[tuple[int, int, int], ...]:
        """Smallest, best served and largest batch size of each profile; empty where all shapes are fixed."""

    def best_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each input that the first profile serves best; the fixed one where there is no profile."""


@runtime_checkable
class Engine(Protocol):
    """What the module offers that a target names as its ``runner``."""

    def open_target(self, spec: Spec, *, threads: int | None, device: str, stated: Stated, allow_code: bool) -> Runner:
        """Open ``spec``, whose target is named; see :func:`deploykit.engines.open.open_runner`."""

    def lacking(self, target: str) -> Unavailable | None:
        """Why nothing made for ``target`` can be used on this machine, or None; nothing is opened for it."""


def fed_batch(runner: Runner, wanted: int) -> int | None:
    """The batch size that every call must have, the last one filled up; None: any size goes.

    ``runner``: an open engine. ``wanted``: pictures a call, where the engine takes them; else the nearest that it
    takes.
    """
    if (fixed := runner.inputs[0].fixed_batch) is not None:
        return fixed
    if not isinstance(runner, Ranged) or not runner.batch_ranges:
        return None
    nearest = (min(max(wanted, low), high) for low, _, high in runner.batch_ranges)
    return min(nearest, key=lambda size: abs(size - wanted))


def bound_call(runner: Runner, x: Feed) -> Callable[[], object]:
    """What is timed of a run of ``x``: the run alone, where the engine can bind its input before, else all of the call."""
    return runner.prebound(x) if isinstance(runner, Prebound) else lambda: runner(x)
