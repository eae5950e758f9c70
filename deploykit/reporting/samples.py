"""The raw latencies that a report names."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from deploykit.reporting.pick import primary_measurement
from deploykit.reporting.schema import Report

MAX_BYTES = 1 << 28


def primary_samples(report: Report, folder: Path) -> dict[str, np.ndarray]:
    """Variant name → float64 [n] milliseconds of its primary measurement; those whose file is missing or unreadable
    are left out, because the numbers of the report stand without them.
    """
    found = {}
    for variant in report.variants:
        one = primary_measurement(report, variant)
        if one is not None and one.samples_file:
            samples = read_samples(folder / one.samples_file, folder)
            if samples is not None and samples.size >= 2:
                found[variant.name] = samples
    return found


def read_samples(path: Path, folder: Path) -> np.ndarray | None:
    """The ``samples_ms`` of an ``.npz``: float64 [n], positive and finite; None where that cannot be had.

    A path that leaves ``folder``, through a link for instance, is not followed.
    """
    try:
        real = path.resolve()
        if not real.is_relative_to(folder.resolve()) or not real.is_file() or real.stat().st_size > MAX_BYTES:
            return None
        with np.load(real, allow_pickle=False) as file:
            samples = np.asarray(file["samples_ms"], dtype=np.float64).ravel()
    except (OSError, ValueError, EOFError, KeyError, TypeError, IndexError, zipfile.BadZipFile):
        return None
    return samples[np.isfinite(samples) & (samples > 0)]
