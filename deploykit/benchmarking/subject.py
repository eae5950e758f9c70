"""What is timed, as the benchmark sees it; what is inside is the caller's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np


class Subject(Protocol):
    """One variant inside its worker process. It is made with its libraries imported, but loads later."""

    def load(self) -> None:
        """Load the engine; with the first answer this is the cold start."""

    def answer(self) -> np.ndarray:
        """One answer, any shape; the worker refuses NaN and infinity in it."""

    def calls(self) -> Mapping[str, Callable[[], object]]:
        """What may be timed: ``compute`` and ``end_to_end`` → a call without arguments that runs one batch."""

    def close(self) -> None:
        """Free the engine."""


@dataclass(frozen=True)
class Opener:
    """How a worker makes its subject: a function that pickles by name, and plain arguments."""

    function: Callable[..., Subject]
    arguments: tuple[Any, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
