"""The library's messages. Its logger is one for the whole process (the first wins), so there is one, with many ears.

``IErrorRecorder`` would be the proper way, but a Python one crashes the process; it is never used.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deploykit.engines.tensorrt.version import Api


class Said(list[str]):
    """Errors, oldest first.

    ``warnings``: beside them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []


_LOCK = threading.Lock()
_EARS: list[Said] = []
_LOGGERS: dict[str, Any] = {}
_NOISE = re.compile(r"catchCudaError::\d+\]|^--- (?:Begin|End) node|^Node name:|^While parsing node|^ModelImporter")


def logger(api: Api) -> Any:
    """The one logger of this process for a flavour."""
    with _LOCK:
        if api.flavour.target not in _LOGGERS:
            _LOGGERS[api.flavour.target] = _make(api)
        return _LOGGERS[api.flavour.target]


@contextmanager
def listening() -> Iterator[Said]:
    """The errors and warnings that any library of the family says while the block runs."""
    said = Said()
    with _LOCK:
        _EARS.append(said)
    try:
        yield said
    finally:
        with _LOCK:
            _EARS[:] = [ear for ear in _EARS if ear is not said]


def reason(said: list[str]) -> str:
    """The first real error of what was said, without the library's own file names, in at most 300 characters."""
    for message in said:
        text = " ".join(message.split())
        if not _NOISE.search(text):
            text = re.sub(r"^\w+::\w+: Error Code \d+: ", "", text)
            return re.sub(r"\s*In \w+ at /_src/\S+?:\d+\)?", "", text)[:300]
    return "it says nothing more"


def _make(api: Api) -> Any:
    base = api.trt.ILogger
    loud = (base.Severity.INTERNAL_ERROR, base.Severity.ERROR)

    class Listener(base):  # type: ignore[misc, valid-type]  # a class of the library at hand
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity not in (*loud, base.Severity.WARNING):
                return
            with _LOCK:
                for ear in _EARS:
                    (ear if severity in loud else ear.warnings).append(message)

    return Listener()
