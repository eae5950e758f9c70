"""``min_snr_db``: how near the outputs are to the reference of their parity."""

from __future__ import annotations

from deploykit.gating.limits.single_numbers import REPORT, number_limit
from deploykit.gating.question import PASS, Case, Question


def min_snr_db(case: Case) -> Question:
    """SNR of the outputs in dB; identical ones have none to be compared, and pass."""
    parity = case.new.variants[case.name].parity
    if parity and parity.identical:
        return Question(
            case.name,
            case.rule,
            case.limit,
            verdict=PASS,
            reason="the outputs are identical",
            exact=True,
            source="parity",
        )
    return number_limit(
        case, lambda one: one.parity.snr_db if one.parity else None, most=False, relative=False, source=REPORT
    )
