"""What a training stage shows in the report: its learning curves, and what each step so far was worth on ``select``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploykit.reporting.attachments import Attachment
    from deploykit.training.course import Course

MOST_POINTS = 2000
MOST_TEACHERS = 8


def attachments_of(
    stage: str, course: Course, facts: dict[str, Any], lineage: Sequence[dict[str, Any]]
) -> list[Attachment]:
    """The attachments of a trained model file.

    Args:
        stage: the command's name.
        course: how training went.
        facts: of this stage; ``top1_select_before`` and ``teachers`` are shown where they are there.
        lineage: of the file that it started from, oldest first.
    """
    from deploykit.reporting.attachments import series, table

    kept = facts["best_epoch"]
    select = _thin([(epoch, top1) for epoch, top1 in enumerate(course.top1, start=1) if top1 is not None])
    if facts.get("top1_select_before") is not None:
        select.insert(0, (0, facts["top1_select_before"]))
    lines: dict[str, list[tuple[float, float]]] = {"student": select} if select else {}
    for teacher in facts.get("teachers", ())[:MOST_TEACHERS]:
        if select:
            lines[f"teacher {teacher['name']}"] = [(at, teacher["top1_select"]) for at in (select[0][0], select[-1][0])]
    losses = _thin(list(enumerate(course.losses, start=1)))
    made = [
        series("Training loss", stage, "epoch", {"label": "loss", "log": min(course.losses) > 0}, {"train": losses}),
        *([series("Top-1 on select", stage, "epoch", "top-1", lines, f"Epoch {kept} was kept.")] if select else []),
    ]
    rows = worth_of([*lineage, {"stage": stage, "result": facts}])
    columns: list[dict[str, Any]] = [
        {"name": "step", "align": "left"},
        {"name": "million MACs", "digits": 2},
        *(
            {"name": name, "unit": "%", "digits": 2}
            for name in ("one-shot", "BatchNorm re-estimated", "after training")
        ),
        {"name": "worth", "unit": "pt", "digits": 2},
    ]
    note = "Top-1 on the select pictures, by which every choice is made; the test split is judged apart."
    return [*made, *([table("What each step was worth", stage, columns, rows, note)] if len(rows) > 1 else [])]


def worth_of(lineage: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """One row per step that said how it answers ``select``: step, MACs in millions, top-1 in % before anything else is done
    to its network, with BatchNorm re-estimated and after training, and the change over the step before in points.
    """
    rows: list[list[Any]] = []
    last: float | None = None
    for entry in lineage:
        facts = entry.get("result") or {}
        shot, again, trained = _accuracies(facts)
        known = [value for value in (trained, again, shot) if value is not None]
        if not known:
            continue
        worth = None if last is None else 100 * (known[0] - last)
        macs = _macs(facts)
        rows.append([_named(entry, rows), macs / 1e6 if macs else None, *map(_percent, (shot, again, trained)), worth])
        last = known[0]
    return rows


def _accuracies(facts: dict[str, Any]) -> tuple[float | None, float | None, float | None]:
    """Top-1 as the network was cut, with BatchNorm re-estimated, and after training; None where a step has none."""
    found = facts.get("top1_select")
    if isinstance(found, dict):
        return found.get("one_shot"), found.get("recalibrated"), None
    return None, None, found


def _macs(facts: dict[str, Any]) -> float | None:
    """Of the network that the step made, where it says so."""
    found = (facts.get("student") or facts).get("macs")
    return found.get("after") if isinstance(found, dict) else found


def _named(entry: dict[str, Any], rows: Sequence[list[Any]]) -> str:
    stage = str(entry.get("stage", "?"))
    before = sum(str(row[0]).partition(" ")[0] == stage for row in rows)
    return stage if not before else f"{stage} ({before + 1})"


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(points) <= MOST_POINTS:
        return points
    return [points[i * (len(points) - 1) // (MOST_POINTS - 1)] for i in range(MOST_POINTS)]
