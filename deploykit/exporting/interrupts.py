"""Ctrl-C that a library swallows: an import it breaks off turns it into an error of another kind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Let a SIGINT inside the block end it with ``KeyboardInterrupt``, whatever the code inside makes of it.

    The handler that was there runs as before; where it raises nothing, it has its own way to end. In a thread other than
    the main one, which gets no signals, and where a handler is not Python's, nothing changes.

    Raises:
        KeyboardInterrupt: SIGINT raised it, and the block failed otherwise or went on as if nothing had happened.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        try:
            before(number, frame)
        except KeyboardInterrupt:
            came = True
            raise

    signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception as error:
        if came:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt
