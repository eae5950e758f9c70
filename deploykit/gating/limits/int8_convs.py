"""``min_int8_conv_share``: whether the engine uses what was quantized."""

from __future__ import annotations

from deploykit.gating.question import Case, Question


def min_int8_conv_share(case: Case) -> Question:
    """The share of the convolutions that the engine really runs on int8, counted in the graph it made."""
    audit = case.new.variants[case.name].audit or {}
    convs, int8 = audit.get("convs"), audit.get("int8_convs")
    if not isinstance(convs, int) or not isinstance(int8, int) or convs < 1:
        return case.failed("its engine was not audited, or has no convolution")
    source = f"audit: {int8} of {convs}"
    return Question(case.name, case.rule, case.limit, int8 / convs, False, exact=True, source=source)
