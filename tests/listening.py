"""A progress that remembers what it was told; the fixture ``listening`` hands a fresh one to a test."""

from __future__ import annotations

from deploykit.base.progress import Silent


class Listening(Silent):
    """Keeps what was ``said`` and what was ``warned``, and both in their order in ``heard``."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self.heard: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)
        self.heard.append(message)

    def warn(self, message: str) -> None:
        self.warned.append(message)
        self.heard.append(message)
