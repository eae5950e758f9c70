"""Running sums of one comparison, from which SNR and cosine follow.

For reference r and candidate c over all numbers: SNR in dB = 10 log10(Σ r² / Σ (c − r)²), cosine = Σ r·c / (‖r‖ ‖c‖).

How close an engine of each precision must come to its reference (DESIGN, "How numbers are made").
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from deploykit.base.errors import unknown


@dataclass
class Sums:
    """Running sums of one comparison; memory does not grow with the images."""

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


def totals(parts: Iterable[Sums]) -> Sums:
    """The sums over several comparisons together."""
    whole = Sums()
    for part in parts:
        for key, value in vars(part).items():
            setattr(whole, key, max(value, whole.max_abs) if key == "max_abs" else getattr(whole, key) + value)
    return whole


@dataclass(frozen=True)
class Budget:
    """The least that one precision must reach.

    ``snr_db``: of each group of numbers. ``agreement``: share of equal numbers where the output holds integers.
    """

    snr_db: float
    agreement: float

    @property
    def centred_db(self) -> float:
        """SNR that the part of a group which depends on the image must reach.

        Rounding to a float format is relative to the whole number, so that a part which is a tenth of it may lose 20 dB.
        """
        return max(min(self.snr_db, 10.0), self.snr_db - 20.0)


@dataclass(frozen=True)
class Figure:
    """One figure of a comparison that is held to a budget.

    ``kind``: ``snr_db`` of a group, ``centred_db`` of what of it depends on the image, or ``equal``: the share of equal
    integers. ``of``: which output and group, at which batch size; empty where there is only one. ``value``: None where
    it is not defined.
    """

    kind: Literal["snr_db", "centred_db", "equal"]
    of: str
    value: float | None

    def limit(self, budget: Budget) -> float:
        """What the budget asks of it."""
        return {"snr_db": budget.snr_db, "centred_db": budget.centred_db, "equal": budget.agreement}[self.kind]

    def misses(self, budget: Budget) -> bool:
        """Whether it is below what the budget asks."""
        return self.value is None or self.value < self.limit(budget)

    def shown(self, value: float) -> str:
        """A value with its unit."""
        return f"{value:g}" if self.kind == "equal" else f"{value:g} dB"

    def told(self) -> str:
        """In words."""
        of = f"{self.of}: " if self.of else ""
        if self.kind == "equal":
            return f"{of}{self.value:.4f} of the integers are equal"
        name = "SNR" if self.kind == "snr_db" else "SNR of what depends on the image"
        return f"{of}{name} {'undefined (the reference is all zero)' if self.value is None else f'{self.value:.1f} dB'}"


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


def too_small(figures: Sequence[Figure], precision: str, budget: Budget) -> list[str]:
    """What misses a budget, in words; of a group whose SNR does, what depends on the image need not be said too."""
    missing = [one for one in figures if one.misses(budget)]
    told = {one.of for one in missing if one.kind == "snr_db"}
    return [
        f"{one.told()}, expected at least {one.shown(one.limit(budget))} for {precision}"
        for one in missing
        if one.kind != "centred_db" or one.of not in told
    ]
