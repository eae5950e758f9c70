"""Ctrl-C and SIGTERM as a wish that the loop grants at the end of a step, so that no state is torn."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether somebody asked to stop.

    While :attr:`patient` is set the first signal only sets :attr:`asked`; otherwise, and at the second one, it raises
    ``KeyboardInterrupt`` where the program stands.
    """

    def __init__(self) -> None:
        self.asked = self.patient = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.patient and not self.asked:
            self.asked = True
        else:
            raise KeyboardInterrupt

    @contextmanager
    def listening(self) -> Iterator[Stop]:
        """Take SIGINT and SIGTERM inside the block; in a thread other than the main one nothing changes."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
