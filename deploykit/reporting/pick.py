"""What a report concludes: which variants are worth a look, and which one to deploy."""

from __future__ import annotations

from itertools import chain

from deploykit.base.targets import REFERENCE
from deploykit.reporting.format import drop_interval, metric_word, percent, points, times
from deploykit.reporting.schema import Budget, Measurement, Of, Pick, Report, Variant


def primary(report: Report) -> Of | None:
    """Which measurement the report's speed-ups speak of.

    It is the one that the first speed-up names, else the first one measured; None where nothing was timed.
    """
    named = [variant.speedup.of for variant in report.variants if variant.speedup]
    measured = (one.key for variant in report.variants for one in variant.measurements)
    return next(chain(named, measured), None)


def primary_measurement(report: Report, variant: Variant) -> Measurement | None:
    """The variant's own measurement of :func:`primary`, or None."""
    wanted = primary(report)
    return next((one for one in variant.measurements if one.key == wanted), None)


def metric_of(report: Report) -> str:
    """The report's main metric in a word: ``top-1``."""
    return metric_word(next((one.quality.metric for one in report.variants if one.quality), "top1"))


def verified(variant: Variant) -> bool:
    """Whether the variant's answers were checked against their reference, and hold or are accepted; eager PyTorch is the
    reference.
    """
    if variant.status != "ok":
        return variant.usable
    parity = variant.parity
    return bool(parity.ok) if parity else variant.target == REFERENCE


def other_sides(report: Report) -> set[str]:
    """The variants that are only there to be compared with (``NAME@base``): none of them is deployed."""
    return {one.against.name for one in report.variants if one.against}


def _value(variant: Variant) -> float | None:
    return variant.quality.value if variant.quality else None


def _p50(report: Report, variant: Variant) -> float | None:
    timed = primary_measurement(report, variant)
    return timed.p50_ms if timed else None


def pareto(report: Report) -> list[str]:
    """Names of the verified variants that no other one beats in both latency and quality, the fastest first.

    A variant without latency or accuracy takes no part. Of two equal ones both stay.
    """
    known = [
        (p50, -value, variant.name)
        for variant in report.variants
        if verified(variant) and (p50 := _p50(report, variant)) is not None and (value := _value(variant)) is not None
    ]
    beaten = {
        name for p50, loss, name in known if any(a <= p50 and b <= loss and (a, b) != (p50, loss) for a, b, _ in known)
    }
    return [name for _, _, name in sorted(known) if name not in beaten]


def _drop_high(report: Report, variant: Variant) -> float | None:
    """The upper bound of the drop; the baseline's own is 0 by definition."""
    if variant.quality is None:
        return None
    return 0.0 if variant.name == report.baseline else variant.quality.drop_pt_high


def _speed(report: Report, variant: Variant) -> float | None:
    """The paired speed-up over the baseline, or where there is none the ratio of the medians of this same report."""
    if variant.speedup:
        return variant.speedup.estimate
    if variant.name == report.baseline:
        return 1.0 if _p50(report, variant) is not None else None
    base = report.variant(report.baseline)
    ours, theirs = _p50(report, variant), _p50(report, base) if base else None
    if ours is None:
        return None
    return theirs / ours if theirs is not None else 1 / ours


def _clearly_faster(report: Report, speed: float, variant: Variant) -> bool:
    """Whether the variant is faster than the baseline: by more than the noise floor, and its interval excludes 1."""
    low = variant.speedup.low if variant.speedup else None
    return speed > 1 + (report.noise_floor_ratio or 0.0) and (low is None or low > 1)


def _baseline_failed(report: Report) -> bool:
    """Whether speed and drop were measured against a wrong answer."""
    base = report.variant(report.baseline)
    return base is not None and base.status == "failed" and not base.accepted


def _why_the_baseline(report: Report, fit: list[tuple[float, Variant]], max_drop_pt: float) -> str:
    faster = [one for one in fit if one[0] > 1 and one[1].name != report.baseline]
    nothing = (
        f"no verified variant within {max_drop_pt:g} pt of the baseline's top-1 is faster than the baseline itself"
    )
    if not faster:
        return nothing
    speed, best = max(faster, key=lambda one: one[0])
    floor = report.noise_floor_ratio or 0.0
    shown = times(speed, best.speedup, report.ci_level)
    doubt = f"within the noise floor of {percent(floor)}" if speed <= 1 + floor else "which does not exclude 1"
    return f"{nothing} beyond doubt: {best.name} has {shown} its speed, {doubt}"


def pick(report: Report, max_drop_pt: float = 1.0) -> Pick | None:
    """The fastest verified variant whose upper drop bound is within the budget; None where there is none.

    A variant whose speed-up may be 1, or which two copies of the baseline might show as well, is not faster than the
    baseline: where only such ones are left, the baseline is the pick.

    Args:
        report: with variants and baseline.
        max_drop_pt: how much top-1 may be lost against the baseline, in percentage points.

    Returns:
        Its name and why, or None; :func:`why_no_pick` then says why.
    """
    if _baseline_failed(report):
        return None
    fit = [
        (speed, variant)
        for variant in report.variants
        if variant.name not in other_sides(report)
        and verified(variant)
        and (speed := _speed(report, variant)) is not None
        and (bound := _drop_high(report, variant)) is not None
        and bound <= max_drop_pt
    ]
    if not fit:
        return None
    base = next((one for one in fit if one[1].name == report.baseline), None)
    clear = [one for one in fit if base is None or _clearly_faster(report, *one)]
    if base is not None and not clear:
        return Pick(name=base[1].name, why=_why_the_baseline(report, fit, max_drop_pt))
    speed, best = max(clear, key=lambda one: one[0])
    faster = times(speed, best.speedup, report.ci_level)
    quality = best.quality
    assert quality is not None
    taken = "" if best.status == "ok" else f" ({best.status}, accepted)"
    why = (
        f"the fastest verified variant{taken} whose drop stays within {max_drop_pt:g} pt: {faster} the speed of "
        f"{report.baseline}, {metric_word(quality.metric)} {percent(quality.value)}, drop {points(quality.drop_pt)} "
        f"({drop_interval(quality)})"
    )
    return Pick(name=best.name, why=why)


def why_no_pick(report: Report, max_drop_pt: float = 1.0) -> str:
    """Why :func:`pick` found none: one sentence that names what each variant lacks."""
    if report.task == "none":
        return "no variant is picked: the outputs are numbers without a meaning, so that no quality is known"
    if _baseline_failed(report):
        return f"no variant is picked: the baseline {report.baseline} failed, so that nothing is known against it"
    lacks = []
    for variant in report.variants:
        bound = _drop_high(report, variant)
        if not variant.usable:
            lacks.append(f"{variant.name} {variant.status}")
        elif not verified(variant):
            lacks.append(f"{variant.name} is not verified")
        elif bound is None:
            lacks.append(f"{variant.name} has no quality to compare")
        elif bound > max_drop_pt:
            lacks.append(f"{variant.name} may lose up to {bound:.2f} pt")
        else:
            lacks.append(f"{variant.name} was not timed")
    return f"no variant is verified, timed and within {max_drop_pt:g} pt: " + ", ".join(lacks)


def settle(report: Report, max_drop_pt: float = 1.0) -> Report:
    """A copy of the report with ``budget``, ``pareto`` and ``pick`` filled in, and a warning where there is no pick."""
    chosen = pick(report, max_drop_pt)
    timed = primary(report) is not None
    extra = [why_no_pick(report, max_drop_pt)] if chosen is None and timed else []
    return report.model_copy(
        update={
            "budget": Budget(max_drop_pt=max_drop_pt),
            "pareto": pareto(report),
            "pick": chosen,
            "warnings": [*report.warnings, *extra],
        }
    )
