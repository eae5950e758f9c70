"""Policies of version 2: limits in units of time, references, warnings; and that version 1 is read as before."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.base.errors import BadInput
from deploykit.commands.gate import gate
from deploykit.config.gate import GateConfig, GatePolicy, load_policy, parse_policy
from deploykit.gating.result import Gate
from tests.gating.made import run_folder

MACHINE = "Made CPU, 4 cores"
VARIANTS: dict[str, Any] = {"fp32": {}, "int8": {"factor": 0.4, "lost": 1}}


def judged(folder: Path, limits: dict[str, Any], version: int = 2, **policy: Any) -> Gate:
    made = GatePolicy.model_validate({"version": version, "limits": limits, **policy})
    return gate(folder, None, GateConfig(policy=made, annotations="none")).gate


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder(tmp_path_factory.mktemp("run") / "run", VARIANTS, rounds=120)


def raw(run: Path) -> dict[str, float]:
    with np.load(run / "samples/int8.npz") as file:
        samples = file["samples_ms"]
    return {
        "max_latency_ms": float(np.median(samples)),
        "max_p99_ms": float(np.quantile(samples, 0.99)),
        "min_images_per_s": float(1e3 / samples.mean()),
    }


@pytest.mark.parametrize("rule", ["max_latency_ms", "max_p99_ms", "min_images_per_s"])
@pytest.mark.parametrize(("factor", "verdict"), [(2.0, "pass"), (1.0, "cannot_tell"), (0.5, "fail")])
def test_limits_in_units_of_time_are_interval_tests(run: Path, rule: str, factor: float, verdict: str) -> None:
    value = raw(run)[rule]
    limit = value * factor if rule.startswith("max") else value / factor
    (found,) = judged(run, {"int8": {rule: limit}}, machine=MACHINE).findings
    assert found.verdict == verdict
    assert found.value == pytest.approx(value, rel=0.03)
    assert found.low < found.value < found.high
    assert found.level == 0.95
    if verdict != "cannot_tell":
        assert (found.low > limit) == (found.high > limit)  # the whole interval lies on one side


def test_a_slower_engine_fails_what_a_faster_one_passes(run: Path) -> None:
    limit = {"max_latency_ms": 2 * raw(run)["max_latency_ms"]}
    found = judged(run, {"int8": limit, "fp32": limit}, machine=MACHINE)
    assert {one.variant: one.verdict for one in found.findings} == {"int8": "pass", "fp32": "fail"}


@pytest.mark.parametrize("rule", ["max_latency_ms", "max_p99_ms", "min_images_per_s"])
@pytest.mark.parametrize("machine", [None, "Other CPU, 64 cores"])
def test_on_another_machine_or_an_unnamed_one_they_cannot_tell(run: Path, rule: str, machine: str | None) -> None:
    found = judged(run, {"int8": {rule: 1e-9 if rule.startswith("max") else 1e9}}, machine=machine)
    (one,) = found.findings
    assert (found.verdict, found.exit_code) == ("cannot_tell", 3)
    assert MACHINE in one.reason
    assert one.value is None


def test_too_few_calls_tell_nothing_of_p99(tmp_path: Path) -> None:
    few = run_folder(tmp_path / "run", VARIANTS, rounds=60)
    (one,) = judged(few, {"int8": {"max_p99_ms": 1e-9}}, machine=MACHINE).findings
    assert (one.verdict, "420 calls" in one.reason, "662" in one.reason) == ("cannot_tell", True, True)


def test_a_lone_report_is_judged_by_its_stated_interval(tmp_path: Path) -> None:
    lone = run_folder(tmp_path / "run", VARIANTS, rounds=120)
    report = json.loads((lone / "report.json").read_text())
    timed = report["variants"][1]["measurements"][0]
    timed |= {"p50_ms_low": timed["p50_ms"] * 0.95, "p50_ms_high": timed["p50_ms"] * 1.05}
    (tmp_path / "report.json").write_text(json.dumps(report))
    limits = {"max_latency_ms": timed["p50_ms"] * 1.5, "max_p99_ms": 1e9, "min_images_per_s": 1e-9}
    found = {one.rule: one for one in judged(tmp_path / "report.json", {"int8": limits}, machine=MACHINE).findings}
    assert found["max_latency_ms"].verdict == "pass"
    assert {found[rule].verdict for rule in ("max_p99_ms", "min_images_per_s")} == {"cannot_tell"}


REFERENCES: dict[str, Any] = {
    "fp32": {},
    "eager": {"factor": 4.0, "fields": {"target": "torch-eager", "parity": None}},
    "fast": {"factor": 3.0, "fields": {"target": "torch-compile"}},
    "int8": {"factor": 0.4},
}


def test_references_are_judged_only_where_they_are_named(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", REFERENCES)
    every = {"*": {"max_latency_ratio": 1.0}}
    found = judged(run, every)
    assert {one.variant for one in found.findings} == {"int8"}
    assert sum("reference" in note for note in found.notes) == 2
    named = judged(run, {**every, "eager": {"max_latency_ratio": 9.0}}, required=["fast"])
    assert {one.variant: one.verdict for one in named.findings} == {"int8": "pass", "eager": "pass", "fast": "fail"}
    old = judged(run, every, version=1)
    assert {one.variant: one.verdict for one in old.findings} == {"int8": "pass", "eager": "fail", "fast": "fail"}


def test_a_reference_that_failed_or_went_away_is_nobodys_failure(tmp_path: Path) -> None:
    broken = {
        **REFERENCES,
        "fast": {"fields": {"target": "torch-compile", "status": "failed", "reason": "no compiler"}},
    }
    new = run_folder(tmp_path / "new", broken)
    old = run_folder(tmp_path / "old", {**REFERENCES, "gone": REFERENCES["eager"]})
    for version, verdict in ((1, "fail"), (2, "pass")):
        policy = GatePolicy.model_validate({"version": version, "limits": {"*": {"max_size_ratio": 2}}})
        config = GateConfig(policy=policy, baseline=str(old), annotations="none")
        assert gate(new, None, config).gate.verdict == verdict


@pytest.mark.parametrize(("how", "code", "child"), [("fail", 3, "error"), ("warn", 0, "skipped")])
def test_cannot_tell_is_an_error_or_a_warning(run: Path, tmp_path: Path, how: str, code: int, child: str) -> None:
    limits = {"int8": {"min_speedup": 2.5}}
    policy = GatePolicy.model_validate({"version": 2, "limits": limits, "on_cannot_tell": how})
    result = gate(run, tmp_path / "out", GateConfig(policy=policy, annotations="none"))
    assert (result.gate.verdict, result.status, result.exit_code) == ("cannot_tell", "cannot_tell", code)
    root = ET.parse(tmp_path / "out" / "gate.junit.xml").getroot()
    assert [one.tag for one in root.iter() if one.get("type") == "cannot_tell"] == [child]
    assert (root.get("errors"), root.get("skipped")) == (("1", "0") if how == "fail" else ("0", "1"))
    assert ("a warning" in (tmp_path / "out" / "gate.md").read_text()) == (how == "warn")


def test_a_warning_hides_no_failure(run: Path) -> None:
    found = judged(run, {"int8": {"min_speedup": 2.5, "max_size_bytes": 1}}, on_cannot_tell="warn")
    assert (found.verdict, found.exit_code) == ("fail", 1)


@pytest.mark.parametrize("status", ["unsure", "failed"])
@pytest.mark.parametrize("accepted", [False, True])
def test_unsure_cannot_tell_and_accepted_may_pass(tmp_path: Path, status: str, accepted: bool) -> None:
    fields = {"status": status, "reason": "25 of 27 kept", "accepted": accepted}
    fields["parity"] = {"reference": "eager", "n": 128, "snr_db": 9.0, "ok": False}
    run = run_folder(tmp_path / "run", {"fp32": {}, "int8": {"factor": 0.4, "fields": fields}})
    found = judged(run, {"*": {"max_latency_ratio": 1.0}})
    expected = "pass" if accepted else {"unsure": "cannot_tell", "failed": "fail"}[status]
    assert found.verdict == expected
    rules = {one.rule: one.verdict for one in found.findings}
    assert rules.get("status") == (None if accepted else expected)
    assert rules.get("max_latency_ratio") == ("pass" if accepted or status == "unsure" else None)
    parity = judged(run, {"int8": {"require_parity": True}})
    assert parity.verdict == ("pass" if accepted else "fail")


@pytest.mark.parametrize(("value", "verdict"), [(1.0, "pass"), (0.998, "cannot_tell"), (0.9, "cannot_tell")])
def test_without_labels_changed_answers_bound_the_drop(tmp_path: Path, value: float, verdict: str) -> None:
    quality = {"metric": "agreement", "value": value, "drop_pt": 100 * (1 - value), "n": 1000, "split": "test"}
    run = run_folder(tmp_path / "run", {"fp32": {}, "int8": {"fields": {"quality": quality}}}, n=0)
    (found,) = judged(run, {"int8": {"max_drop_pt": 0.5}}).findings
    assert found.verdict == verdict
    assert found.value == pytest.approx(100 * (1 - value))


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("machine: x", "mine.yaml:3: machine"),
        ("on_cannot_tell: warn", "mine.yaml:3: on_cannot_tell"),
        ("name: x\n", None),
    ],
)
def test_version_1_has_none_of_the_new_keys(line: str, place: str | None) -> None:
    text = "version: 1\nlimits: {int8: {min_speedup: 1}}\n"
    if place is None:
        assert parse_policy(text + line, "mine.yaml").version == 1
        return
    with pytest.raises(BadInput, match="version: 2") as caught:
        parse_policy(text + line, "mine.yaml")
    assert place in caught.value.line()
    assert parse_policy(text.replace("version: 1", "version: 2") + line, "mine.yaml").version == 2


def test_version_1_has_no_limits_in_units_of_time() -> None:
    with pytest.raises(BadInput, match=r"mine.yaml:2: limits.int8.max_latency_ms .*version: 2"):
        parse_policy("version: 1\nlimits: {int8: {max_latency_ms: 4}}\n", "mine.yaml")


def test_the_shipped_policies_are_of_today() -> None:
    shipped = sorted((Path(__file__).parents[2] / "recipes" / "gates").glob("*.yaml"))
    assert [load_policy(str(path)).version for path in shipped] == [2, 2]
