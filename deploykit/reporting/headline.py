"""What a report says first: its title, the sentence, the intervals behind it, and what was left out of the judging."""

from __future__ import annotations

from deploykit.reporting import format as t
from deploykit.reporting.pick import primary
from deploykit.reporting.quality import Quality
from deploykit.reporting.schema import Report

CLASSES_NAMED = 5
_STATUS = {"failed": "It failed", "unsure": "It is unsure"}


def headline(report: Report) -> str:
    """The report in one sentence: what to deploy and what it costs."""
    variants, chosen = report.variants, report.pick
    failed = sum(one.status == "failed" and not one.accepted for one in variants)
    if failed == len(variants):
        return "Every variant failed." if failed > 1 else f"{variants[0].name} failed."
    timed = primary(report) is not None
    if timed and report.task == "none":
        return _speed_headline(report)
    if chosen is None:
        return "No variant can be recommended." if timed else _accuracy_headline(report)
    best = next(one for one in variants if one.name == chosen.name)
    if best.name == report.baseline:
        return f"Deploy {best.name}, the baseline: nothing clearly faster stays within the accuracy budget."
    name, base, speed = best.name, report.baseline, best.speedup
    faster = f" is {t.ratio(speed.estimate)} the speed of {base}" if speed else " is the fastest verified variant"
    taken = "" if best.status == "ok" else f" {_STATUS[best.status]} and was accepted by hand: {best.reason}."
    return f"{name}{faster} {_cost(best.quality)}.{taken}"


def _cost(quality: Quality | None) -> str:
    drop = quality.drop_pt if quality else None
    if quality is None or drop is None:
        return "at an accuracy that was not compared"
    metric = t.metric_word(quality.metric)
    if abs(drop) < 0.005:
        return f"at no measured loss of {metric}"
    return f"and {'costs' if drop > 0 else 'gains'} {abs(drop):.2f} pt of {metric}"


def _speed_headline(report: Report) -> str:
    """Of outputs without a meaning only the times are known."""
    known = [(one.speedup.estimate, one.name) for one in report.variants if one.speedup and one.usable]
    faster, best = max(known, default=(1.0, report.baseline))
    if len(report.variants) == 1 or faster <= 1:
        alone = len(report.variants) == 1
        return (
            "Only its time was measured."
            if alone
            else f"Nothing is faster than {report.baseline}; only times are known."
        )
    return f"{best} is {t.ratio(faster)} the speed of {report.baseline}; only times are known."


def _accuracy_headline(report: Report) -> str:
    known = [(one.name, one.quality) for one in report.variants if one.quality]
    if not known:
        return "Nothing was measured."
    best, quality = max(known, key=lambda one: one[1].value)
    metric, value = t.metric_word(quality.metric), t.percent(quality.value)
    if len(known) == 1:
        return f"{best} answers {value} of the images right." if metric == "top-1" else f"{best}: {metric} {value}."
    return f"{best} is the most accurate of {len(known)} variants: {metric} {value}."


def detail(report: Report) -> str:
    """The intervals behind the headline, or an empty text."""
    chosen = report.pick
    if chosen is None:
        return ""
    best = next(one for one in report.variants if one.name == chosen.name)
    level = f"{100 * report.ci_level:g} % intervals"
    parts = []
    if t.ratio_interval(best.speedup) and best.name != report.baseline:
        parts.append(f"speed-up {t.ratio_interval(best.speedup)}")
    if t.drop_interval(best.quality) and best.name != report.baseline:
        parts.append(f"drop {t.drop_interval(best.quality)}")
    if not parts:
        return ""
    budget = report.budget.max_drop_pt if report.budget else None
    held = f"; the budget is {budget:g} pt" if budget is not None else ""
    return f"{level}: {', '.join(parts)}{held}."


def title(report: Report) -> str:
    """The page's title."""
    data = report.data
    what = report.recipe or f"{len(report.variants)} variant{'s' if len(report.variants) > 1 else ''}"
    return f"{what} on {data.name}" if data else str(what)


def judged_among(report: Report) -> str:
    """That answers were chosen among some of the classes only; an empty text where they were not."""
    found = next((one.judged_among for one in report.variants if one.judged_among), None)
    if found is None:
        return ""
    named = ", ".join(found.classes[:CLASSES_NAMED]) + (" …" if len(found.classes) > CLASSES_NAMED else ".")
    return f"Answers were chosen among {len(found.classes):,} of the {found.of:,} classes only: {named}"
