"""How close an engine of each precision must come to its reference (DESIGN, "How numbers are made").

With few pictures a ratio such as 0.995 cannot be reached exactly: ``ceil((1 − budget) · n)`` disagreements are allowed, and never
more than a quarter of the pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from deploykit.base.errors import unknown


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
