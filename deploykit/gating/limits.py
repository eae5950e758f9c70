"""From a policy and a report to all the questions that the verdict hangs on."""

from __future__ import annotations

from deploykit.base.errors import BadInput, nearest
from deploykit.config.gate import EVERY, GatePolicy, Limits
from deploykit.gating import accuracy_limits as answers
from deploykit.gating import exact as plain
from deploykit.gating import speed
from deploykit.gating.evidence import Evidence, Wanted, wanted_measurement
from deploykit.gating.question import Question, failed
from deploykit.reporting.schema import OTHER_SIDE

AGAINST_OLD = ("max_drop_pt_vs_baseline", "max_latency_ratio_vs_baseline")


def check_comparable(new: Evidence, old: Evidence) -> None:
    """Refuse an older report whose accuracy speaks of other images.

    Raises:
        BadInput: the data's hash differs, or is missing on one side.
    """
    ours, theirs = new.report.data, old.report.data
    if not ours or not theirs:
        return
    if ours.sha256 != theirs.sha256 or ours.n != theirs.n or ours.split != theirs.split:
        raise BadInput(
            "the baseline report was measured on other data",
            got=f"{ours.name} ({ours.split}, {ours.n} images, sha256 {ours.sha256[:12]}) and "
            f"{theirs.name} ({theirs.split}, {theirs.n} images, sha256 {theirs.sha256[:12]})",
            expected="the same images",
            fix="Measure the baseline again on the present data.",
        )


def questions(new: Evidence, old: Evidence | None, policy: GatePolicy) -> tuple[list[Question], list[str]]:
    """Everything that the policy asks of the report.

    Args:
        new: the report that is judged.
        old: the older report, or None.
        policy: limits.

    Returns:
        The questions, and notes on what was not asked.
    """
    found, notes = _presence(new, old, policy), list[str]()
    wanted = wanted_measurement(new.report, policy.measurement)
    for name, variant in new.variants.items():
        rules = rules_for(name, new, policy)
        if name.endswith(OTHER_SIDE):
            continue  # it is there to be compared with
        if name in policy.ignore or (not rules and name != new.baseline):
            notes.append(
                f"{name} is not judged: the policy {'ignores it' if name in policy.ignore else 'has no limit for it'}"
            )
            continue
        if variant.status == "skipped" and policy.skipped == "ignore":
            notes.append(f"{name} is not judged: this machine skipped it ({variant.reason})")
            continue
        if variant.status != "ok":
            found.append(failed(name, "status", f"{variant.status}: {variant.reason}"))
            continue
        found += [failed(name, "raw data", reason) for reason in new.problems.get(name, [])]
        for rule, limit in rules.items():
            if rule in AGAINST_OLD and old is None and name + OTHER_SIDE in new.variants:
                found.append(_beside(new, name, rule, limit, wanted))
                continue
            own = policy.limits.get(name)
            if (
                rule in AGAINST_OLD
                and old is not None
                and name not in old.variants
                and own
                and rule in own.model_fields_set
            ):
                found.append(failed(name, rule, "the baseline report has no such variant", limit))
                continue
            if rule in AGAINST_OLD and (old is None or name not in old.variants):
                why = "no --baseline report was given" if old is None else "the baseline report has no such variant"
                notes.append(f"{rule} of {name} is not judged: {why}")
                continue
            found.append(_ask(new, old, name, rule, limit, policy, wanted))
    if old is not None:
        found += [failed(name, "baseline raw data", why) for name, all_ in old.problems.items() for why in all_]
    return found, notes


def rules_for(name: str, evidence: Evidence, policy: GatePolicy) -> dict[str, float | bool]:
    """Rule → limit of one variant: ``*``, but for the report's baseline, with the variant's own entry over it."""
    every, own = policy.limits.get(EVERY, Limits()), policy.limits.get(name)
    merged = {} if name == evidence.baseline else _set(every)
    if own is not None:
        merged |= {rule: getattr(own, rule) for rule in own.model_fields_set}
    return {rule: limit for rule, limit in merged.items() if limit is not None and limit is not False}


def _set(limits: Limits) -> dict[str, float | bool | None]:
    return {rule: getattr(limits, rule) for rule in Limits.model_fields}


def _presence(new: Evidence, old: Evidence | None, policy: GatePolicy) -> list[Question]:
    """A failed question for each variant that should be in the report and is not."""
    named = [name for name in policy.limits if name != EVERY]
    before = [] if old is None else [one for one in old.variants if one not in policy.ignore]
    before += [one.removesuffix(OTHER_SIDE) for one in new.variants if one.endswith(OTHER_SIDE)]
    found = []
    for name in dict.fromkeys([*named, *policy.required, *before]):
        if name in new.variants:
            continue
        who = "the policy names it" if name in named or name in policy.required else "the baseline report has it"
        close = nearest(name, new.variants)
        hint = f"; was it renamed to {close}?" if close else ""
        found.append(failed(name, "presence", f"it is not in the report, and {who}{hint}"))
    return found


def _beside(new: Evidence, name: str, rule: str, limit: float | bool, wanted: Wanted) -> Question:
    """A limit against ``NAME@base`` of the same report: measured in the same rounds, on the same images."""
    if new.variants[name + OTHER_SIDE].status != "ok":
        return failed(name, rule, f"{name}{OTHER_SIDE} {new.variants[name + OTHER_SIDE].status}", limit)
    if rule == "max_drop_pt_vs_baseline":
        return answers.drop_between(new, name, name + OTHER_SIDE, limit)
    return speed.ratio_between(new, name, name + OTHER_SIDE, limit, wanted)


def _ask(
    new: Evidence,
    old: Evidence | None,
    name: str,
    rule: str,
    limit: float | bool,
    policy: GatePolicy,
    wanted: Wanted,
) -> Question:
    if rule in plain.PLAIN:
        return plain.plain_limit(new, name, rule, limit)
    if rule == "require_parity":
        return plain.require_parity(new, name)
    if rule == "min_int8_conv_share":
        return plain.min_int8_conv_share(new, name, limit)
    if rule == "min_speedup":
        return speed.min_speedup(new, name, limit, wanted)
    if rule == "max_latency_ratio":
        return speed.max_latency_ratio(new, name, limit, wanted)
    if rule in AGAINST_OLD:
        assert old is not None
        if rule == "max_drop_pt_vs_baseline":
            return answers.max_drop_pt_vs_baseline(new, old, name, limit)
        return speed.max_latency_ratio_vs_baseline(new, old, name, policy.reference, limit, wanted)
    return BY_ACCURACY[rule](new, name, limit)


BY_ACCURACY = {
    "max_drop_pt": answers.max_drop_pt,
    "min_top1": answers.min_top1,
    "min_agreement": answers.min_agreement,
    "max_negative_flips": answers.max_negative_flips,
}
