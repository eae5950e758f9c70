"""What builders measured, kept for this user by library version and GPU, so that nothing stale or foreign is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploykit.base.atomic import write_bytes
from deploykit.base.hashing import value_sha256
from deploykit.base.lock import alone_with
from deploykit.base.progress import Progress
from deploykit.base.user_cache import TIMING, cache_folder
from deploykit.engines.tensorrt.hardware import Gpu
from deploykit.engines.tensorrt.version import Api


def cache_file(api: Api, gpu: Gpu) -> Path:
    """Where the cache of this version on this kind of GPU lies; the file may not be there."""
    key = value_sha256(
        {
            "package": api.flavour.package,
            "version": api.version,
            "gpu": gpu.name,
            "compute_capability": gpu.compute_capability,
            "cuda": gpu.cuda,
        }
    )
    return cache_folder() / TIMING / f"timing.{key[:32]}.bin"


@contextmanager
def shared(place: Path, progress: Progress) -> Iterator[bytes]:
    """The content of the cache file, empty where there is none; two processes use it one after the other.

    Builders must not time kernels at once on one GPU anyway: the times that they keep would be wrong.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with alone_with(place, progress):
        yield place.read_bytes() if place.is_file() else b""


def keep(place: Path, content: bytes) -> None:
    """Replace the cache file whole."""
    write_bytes(place, content)
