"""The verdict of a report, and further looks at it where measuring on can settle what is undecided."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deploykit.base.progress import Progress
from deploykit.config.gate import GateConfig, GatePolicy
from deploykit.gating.evidence import Evidence
from deploykit.gating.policy_questions import check_comparable, questions
from deploykit.gating.result import Gate, times_of
from deploykit.gating.retry import measure_again, speed_undecided
from deploykit.gating.verdict import judge

if TYPE_CHECKING:
    from deploykit.gating.retry import Benchmark


def verdict_of(new: Evidence, old: Evidence | None, policy: GatePolicy, confidence: float, looks: int = 1) -> Gate:
    """The verdict of evidence that is read already.

    Args:
        new: the report that is judged.
        old: the older report, or None.
        policy: limits.
        confidence: of this look, over all limits.
        looks: which look it is.

    Raises:
        BadInput: the older report is of other data.
    """
    if old is not None:
        check_comparable(new, old)
    asked, notes = questions(new, old, policy)
    created = None if old is None else old.report.created
    judged = {one.variant for one in asked}
    return Gate(
        policy.name,
        policy.confidence,
        judge(asked, confidence),
        notes,
        new.report.created,
        created,
        looks,
        times_of(new),
        policy.on_cannot_tell == "warn",
        [
            f"{one.name} failed, and is not judged: {one.reason}"
            for one in new.report.variants
            if one.status == "failed" and not one.accepted and one.name not in judged
        ],
    )


def looked(
    place: Path,
    new: Evidence,
    old: Evidence | None,
    policy: GatePolicy,
    config: GateConfig,
    benchmark: Benchmark,
    progress: Progress,
) -> Gate:
    """The verdict after as many looks as were asked for and needed; each look spends its share of the error.

    Args:
        place: of the report.
        new: evidence of it.
        old: of the older report, or None.
        policy: limits.
        config: how often it is measured again, and how long.
        benchmark: measures these artifacts into this folder and returns the report.
        progress: where it shows.

    Raises:
        BadInput: the older report is of other data, or the artifacts cannot be measured again.
    """
    confidence = 1 - (1 - policy.confidence) / (config.retry + 1)
    found = verdict_of(new, old, policy, confidence)
    for number in range(1, config.retry + 1):
        names = speed_undecided(found)
        if found.verdict != "cannot_tell" or not names:
            break
        progress.say(f"look {number + 1} of {config.retry + 1}: measuring {', '.join(names)} again")
        again = measure_again(place, new, names, policy, config, number, benchmark, progress)
        new.sessions += again.sessions
        new.floors += again.floors
        found = verdict_of(new, old, policy, confidence, number + 1)
    return found
