"""From a policy and a report to all the questions that the verdict hangs on."""

from __future__ import annotations

from dataclasses import replace

from deploykit.base.errors import BadInput, nearest
from deploykit.base.targets import target_of
from deploykit.config.gate import EVERY, GatePolicy
from deploykit.config.registries import LIMITS
from deploykit.gating.evidence import Evidence, wanted_measurement
from deploykit.gating.question import Ask, Case, Question, failed, undecided
from deploykit.reporting.schema import OTHER_SIDE


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
            why = "the policy ignores it" if name in policy.ignore else "the policy has no limit for it"
            why = "it is a reference, which the policy does not name" if _is_reference(name, new, policy) else why
            notes.append(f"{name} is not judged: {why}")
            continue
        if variant.status == "skipped" and policy.skipped == "ignore":
            notes.append(f"{name} is not judged: this machine skipped it ({variant.reason})")
            continue
        if variant.status == "unsure" and not variant.accepted:
            found.append(undecided(name, "status", f"unsure: {variant.reason}", None))
        elif not variant.usable:
            found.append(failed(name, "status", f"{variant.status}: {variant.reason}"))
            continue
        found += [failed(name, "raw data", reason) for reason in new.problems.get(name, [])]
        for rule, limit in rules.items():
            case = Case(new, name, rule, limit, wanted, reference=policy.reference, machine=policy.machine)
            if LIMITS[rule].against_old:
                own = policy.limits.get(name)
                compared = _compared(case, old, named=own is not None and rule in own.model_fields_set)
                if isinstance(compared, Case):
                    case = compared
                else:
                    found += [compared] if isinstance(compared, Question) else []
                    notes += [compared] if isinstance(compared, str) else []
                    continue
            ask: Ask = LIMITS.load(rule)
            found.append(ask(case))
    if old is not None:
        found += [failed(name, "baseline raw data", why) for name, all_ in old.problems.items() for why in all_]
    return found, notes


def _is_reference(name: str, evidence: Evidence, policy: GatePolicy) -> bool:
    """Whether the variant is PyTorch itself, measured to compare with and judged only where the policy names it."""
    named = name in policy.limits or name in policy.required
    return policy.version > 1 and not named and target_of(evidence.variants[name].target).runs_models


def rules_for(name: str, evidence: Evidence, policy: GatePolicy) -> dict[str, float | bool]:
    """Rule → limit of one variant: ``*``, but for the report's baseline and references, with its own entry over it."""
    every, own = policy.limits.get(EVERY), policy.limits.get(name)
    spared = name == evidence.baseline or _is_reference(name, evidence, policy)
    found: dict[str, float | bool] = {}
    for rule in LIMITS:
        by = own if own is not None and rule in own.model_fields_set else every
        limit = None if by is None or (by is every and spared) else getattr(by, rule)
        if limit is not None and limit is not False:
            found[rule] = limit
    return found


def _presence(new: Evidence, old: Evidence | None, policy: GatePolicy) -> list[Question]:
    """A failed question for each variant that should be in the report and is not."""
    named = [name for name in policy.limits if name != EVERY]
    before = [] if old is None else [one for one in old.variants if one not in policy.ignore]
    before = [one for one in before if old is None or not _is_reference(one, old, policy)]
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


def _compared(case: Case, old: Evidence | None, *, named: bool) -> Case | Question | str:
    """The case with what it is compared with, else a broken limit, or a note that it is not asked.

    Args:
        case: of a limit that compares with the older report.
        old: that report, or None.
        named: the policy asks this of the variant by its own name.
    """
    beside = case.name + OTHER_SIDE
    if old is None and beside in case.new.variants:
        status, timed = case.new.variants[beside].status, case.new.variants[beside].measurements
        return replace(case, beside=beside) if timed else case.failed(f"{beside} {status}")
    if old is not None and case.name in old.variants:
        return replace(case, old=old)
    why = "no --baseline report was given" if old is None else "the baseline report has no such variant"
    return case.failed(why) if old is not None and named else f"{case.rule} of {case.name} is not judged: {why}"
