"""Subjects that real worker processes open: a sleeper of known length, and ones that go wrong."""

from __future__ import annotations

import os
import time

import numpy as np


class Spinner:
    """Computes for ``ms`` milliseconds of CPU time, then answers."""

    def __init__(self, ms: float, fault: str = "", after: int = 0) -> None:
        self.ms, self.fault, self.after, self.calls_made = ms, fault, after, 0

    def load(self) -> None:
        if self.fault == "load":
            from deploykit.base.errors import BadInput

            raise BadInput("the file is broken", fix="Make it again.")
        if self.fault == "unavailable":
            from deploykit.base.errors import Unavailable

            raise Unavailable("no such device here")

    def run(self) -> None:
        self.calls_made += 1
        if self.calls_made > self.after:
            if self.fault == "exit":
                os._exit(7)
            if self.fault == "kill":
                os.kill(os.getpid(), 9)
            if self.fault == "raise":
                raise RuntimeError("planted")
            if self.fault == "hang":
                time.sleep(600)
        # CPU time, not wall time: a fixed amount of work, whatever else the machine does
        end = time.thread_time() + self.ms / 1e3
        while time.thread_time() < end:
            pass

    def answer(self) -> np.ndarray:
        nan = self.fault == "nan" or (self.fault == "nan later" and self.calls_made)
        return np.array([[1.0, np.nan if nan else 2.0]])

    def facts(self) -> dict:
        return {"device": "cpu", "fixed_batch": None}

    def call(self, name):
        count = int(name.partition("/")[2] or 1)

        def several():
            for _ in range(count):
                self.run()

        return several

    def device_call(self, name):
        return None

    def close(self) -> None:
        pass


def spinner(*args):
    return Spinner(*args)


def noisy_stdout(ms):
    print("this must not reach the parent's stdout", flush=True)
    return Spinner(ms)


def environment(name):
    class Told(Spinner):
        def load(self):
            raise RuntimeError(f"{name}={os.environ.get(name)}")

    return Told(1.0)


class Placed(Spinner):
    """Writes down the cores that it may compute on."""

    def __init__(self, path: str) -> None:
        super().__init__(1.0)
        self.path = path

    def run(self) -> None:
        super().run()
        with open(self.path, "a") as file:
            file.write(",".join(map(str, os.sched_getaffinity(0))) + "\n")


def where(path):
    return Placed(path)


def dies_at_batch(ms, fault, batch):
    """Goes wrong when it is asked for ``batch`` pictures."""

    class Dies(Spinner):
        def call(self, name):
            if name.endswith(f"/{batch}"):
                if fault == "kill":
                    os.kill(os.getpid(), 9)
                raise MemoryError("no room")
            return super().call(name)

    return Dies(ms)


def fixed(ms):
    class Fixed(Spinner):
        def facts(self):
            return {"device": "cpu", "fixed_batch": 1}

    return Fixed(ms)


def build_that_differs(ms, folder):
    """Every second one that is opened is half as fast, as builds of an engine may differ."""
    number = 0
    while True:
        try:
            os.close(os.open(f"{folder}/{number}", os.O_CREAT | os.O_EXCL))
            return Spinner(ms * (1 + number % 2))
        except FileExistsError:
            number += 1


def on_device(ms):
    """Tells its own time beside the host's."""

    class OnDevice(Spinner):
        def device_call(self, name):
            def timed():
                start = time.perf_counter()
                self.run()
                return (time.perf_counter() - start) * 1e3

            return timed

    return OnDevice(ms)
