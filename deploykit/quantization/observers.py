"""What is seen of one activation during calibration, in constant memory whatever the number of images.

Minimum, maximum and the moving average are exact; the histogram holds a seeded, strided sample. It spans
``[-limit, limit]`` in ``BINS`` equal bins; when a value falls outside, neighbouring bins are merged and the limit
doubles, so that one pass serves every way of choosing a range.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploykit.base.errors import BadInput

BINS = 4096
SAMPLES_PER_IMAGE = 8192
MOVING = 0.9


@dataclass
class Observer:
    """The statistics of one tensor.

    ``low``: exact minimum over everything seen. ``high``: exact maximum. ``moving_low``: exponential moving average of
    the batches' minima (factor ``MOVING``). ``limit``: the histogram spans ``[-limit, limit]``. ``counts``: int64
    [BINS]. ``batches``: seen so far. ``ranges``: chosen from it so far, by method.
    """

    name: str
    low: float = np.inf
    high: float = -np.inf
    moving_low: float = 0.0
    moving_high: float = 0.0
    limit: float = 0.0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    batches: int = 0
    ranges: dict[Hashable, tuple[float, float]] = field(default_factory=dict, compare=False, repr=False)

    def add(self, values: np.ndarray, offset: int = 0) -> None:
        """See one batch.

        ``values``: float array of any shape, images along the first axis. ``offset``: shifts the strided sample, so
        that batches sample different places.

        Raises:
            BadInput: NaN or infinity.
        """
        flat = values.reshape(-1)
        low, high = float(flat.min()), float(flat.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise BadInput(f"activation {self.name!r} holds NaN or infinity", fix="Verify the float model first.")
        self.ranges.clear()
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self.batches == 0:
            self.moving_low, self.moving_high = low, high
        else:
            self.moving_low += (1 - MOVING) * (low - self.moving_low)
            self.moving_high += (1 - MOVING) * (high - self.moving_high)
        self.batches += 1
        self._widen(max(abs(low), abs(high)))
        step = max(1, flat.size // (SAMPLES_PER_IMAGE * max(1, values.shape[0] if values.ndim else 1)))
        sample = flat[offset % step :: step]
        place = ((sample * (0.5 / self.limit) + 0.5) * BINS).astype(np.int64)
        self.counts += np.bincount(np.clip(place, 0, BINS - 1), minlength=BINS)

    def _widen(self, limit: float) -> None:
        if self.limit == 0.0:
            self.limit = max(limit, 1e-30) * 1.0001
        while limit > self.limit:
            half = BINS // 2
            merged = self.counts.reshape(half, 2).sum(axis=1)
            self.counts = np.zeros(BINS, np.int64)
            self.counts[half // 2 : half // 2 + half] = merged
            self.limit *= 2

    def centers(self) -> np.ndarray:
        """The middle of each bin, float64 [BINS]."""
        return ((np.arange(BINS) + 0.5) / BINS - 0.5) * 2 * self.limit

    def to_dict(self) -> dict[str, str | float | list[int]]:
        """JSON-able; the counts as (index, count) of the bins that are not empty."""
        filled = np.flatnonzero(self.counts)
        return {
            "name": self.name, "low": self.low, "high": self.high, "moving_low": self.moving_low,
            "moving_high": self.moving_high, "limit": self.limit, "batches": self.batches,
            "bins": filled.tolist(), "counts": self.counts[filled].tolist(),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Observer:
        """Read what :meth:`to_dict` wrote."""
        plain = {key: value for key, value in fields.items() if key not in ("bins", "counts")}
        observer = cls(**plain)
        observer.counts[np.asarray(fields["bins"], np.int64)] = np.asarray(fields["counts"], np.int64)
        return observer
