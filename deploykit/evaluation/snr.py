"""Running sums of one comparison, from which SNR and cosine follow.

For reference r and candidate c over all numbers: SNR in dB = 10 log10(Σ r² / Σ (c − r)²), cosine = Σ r·c / (‖r‖ ‖c‖).

How close an engine of each precision must come to its reference (DESIGN, "How numbers are made").

With few pictures a ratio such as 0.995 cannot be reached exactly: ``ceil((1 − budget) · n)`` disagreements are allowed, and never
more than a quarter of the pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from deploykit.base.errors import unknown


@dataclass
class Sums:
    """Running sums of one comparison; memory does not grow with the pictures."""

    numbers: int = 0
    signal: float = 0.0
    other: float = 0.0
    noise: float = 0.0
    dot: float = 0.0
    abs_sum: float = 0.0
    max_abs: float = 0.0
    nan: int = 0
    reference_nan: int = 0

    def add(self, reference: np.ndarray, candidate: np.ndarray) -> None:
        """Add arrays of equal shape, any dtype; numbers that are not finite on either side are counted, not summed."""
        r = np.asarray(reference, np.float64).ravel()
        c = np.asarray(candidate, np.float64).ravel()
        finite_r, finite_c = np.isfinite(r), np.isfinite(c)
        self.numbers += r.size
        self.reference_nan += int(r.size - finite_r.sum())
        self.nan += int(c.size - finite_c.sum())
        if not (finite_r.all() and finite_c.all()):
            both = finite_r & finite_c
            r, c = r[both], c[both]
        difference = c - r
        self.signal += float(r @ r)
        self.other += float(c @ c)
        self.noise += float(difference @ difference)
        self.dot += float(r @ c)
        if difference.size:
            size = np.abs(difference)
            self.abs_sum += float(size.sum())
            self.max_abs = max(self.max_abs, float(size.max()))

    @property
    def broken(self) -> bool:
        """Whether a number of either side is NaN or infinite."""
        return self.nan + self.reference_nan > 0

    @property
    def largest(self) -> float | None:
        """The largest absolute difference; None where broken or empty."""
        return None if self.broken or not self.numbers else self.max_abs

    @property
    def identical(self) -> bool:
        """Whether every number was equal."""
        return self.numbers > 0 and not self.broken and self.max_abs == 0

    @property
    def snr_db(self) -> float | None:
        """SNR in dB; None where identical, all zero, empty or broken."""
        if self.broken or self.noise == 0 or self.signal == 0:
            return None
        return 10 * math.log10(self.signal / self.noise)

    @property
    def cosine(self) -> float | None:
        """Cosine similarity; None where it is not defined."""
        if self.broken or self.signal == 0 or self.other == 0:
            return None
        return max(-1.0, min(1.0, self.dot / math.sqrt(self.signal * self.other)))


def joined(parts: Iterable[Sums]) -> Sums:
    """The sums over several comparisons together."""
    whole = Sums()
    for part in parts:
        for key, value in vars(part).items():
            setattr(whole, key, max(value, whole.max_abs) if key == "max_abs" else getattr(whole, key) + value)
    return whole


@dataclass(frozen=True)
class Budget:
    """The least that one precision must reach: ``snr_db`` and ``agreement`` (a ratio)."""

    snr_db: float
    agreement: float


BUDGETS = {
    "fp32": Budget(80.0, 0.995),
    "tf32": Budget(50.0, 0.99),
    "fp16": Budget(40.0, 0.99),
    "bf16": Budget(25.0, 0.98),
    "fp8": Budget(10.0, 0.95),
    "int8": Budget(10.0, 0.95),
}


def budget_of(precision: str) -> Budget:
    """The budget of ``precision``.

    Raises:
        BadInput: an unknown precision.
    """
    if precision not in BUDGETS:
        raise unknown("precision", precision, BUDGETS)
    return BUDGETS[precision]


def allowed_disagreements(n: int, budget: Budget) -> int:
    """How many of ``n`` pictures may change their class: the budget's share rounded up, at most a quarter."""
    return min(math.ceil(round((1 - budget.agreement) * n, 9)), n // 4)
