"""``require_parity``: the outputs were compared with their reference, and hold."""

from __future__ import annotations

from deploykit.base.targets import REFERENCE
from deploykit.gating.question import FAIL, PASS, Case, Question


def require_parity(case: Case) -> Question:
    """Parity with its reference must be known and hold, or be accepted; eager PyTorch is the reference itself."""
    name, rule, variant = case.name, case.rule, case.new.variants[case.name]
    parity = variant.parity
    if parity is None and variant.target == REFERENCE:
        return Question(name, rule, True, verdict=PASS, reason="it is the reference", exact=True, source="parity")
    if parity is None:
        return case.failed("its outputs were not compared with a reference")
    told = f"compared with {parity.reference} on {parity.n} images"
    verdict = PASS if (parity.ok or variant.accepted) and parity.n > 0 else FAIL
    reason = told if parity.ok else f"beyond its budget, {told}" + (", accepted by hand" if verdict == PASS else "")
    return Question(name, rule, True, verdict=verdict, reason=reason, exact=True, source="parity")
