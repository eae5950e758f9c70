"""What is timed, as the benchmark sees it; what is inside is the caller's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np


class Subject(Protocol):
    """One variant inside its worker process. It is made with its libraries imported, but loads later.

    Calls are named ``compute`` and ``end_to_end``; ``compute/8`` is one of eight pictures instead of the usual number.
    """

    def load(self) -> None:
        """Load the engine; with the first answer this is the cold start."""

    def answer(self) -> np.ndarray:
        """One answer, any shape; the worker refuses NaN and infinity in it."""

    def facts(self) -> Mapping[str, Any]:
        """What is known once it is loaded: ``device`` (``cpu`` or ``cuda``), ``fixed_batch`` (or None)."""

    def call(self, name: str) -> Callable[[], object]:
        """What is timed under ``name``: a call without arguments that returns when its answer is complete."""

    def device_call(self, name: str) -> Callable[[], float] | None:
        """The same call, returning the milliseconds that the device's own clock counted; None where it has none."""

    def close(self) -> None:
        """Free the engine."""


@dataclass(frozen=True)
class Opener:
    """How a worker makes its subject: a function that pickles by name, and plain arguments."""

    function: Callable[..., Subject]
    arguments: tuple[Any, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def split_name(name: str) -> tuple[str, int | None]:
    """``compute/8`` → ``("compute", 8)``; ``compute`` → ``("compute", None)``."""
    timed, _, images = name.partition("/")
    return timed, int(images) if images else None
