"""Verdicts over run folders: every limit both ways, what is missing, what was changed, what cannot be told."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from deploykit.base.errors import BadInput
from deploykit.commands.gate import gate
from deploykit.config.gate import GateConfig, GatePolicy
from deploykit.reporting import read_report
from tests.gating.made import run_folder

GOOD = {"fp32": {}, "int8": {"factor": 0.4, "lost": 1}}


def judged(folder: Path, limits: dict, baseline: Path | None = None, **policy):
    made = GatePolicy.model_validate({"version": 1, "name": "test", "limits": limits, **policy})
    return gate(folder, None, GateConfig(policy=made, baseline=baseline and str(baseline), annotations="none")).gate


def only(found, rule: str):
    (one,) = [one for one in found.findings if one.rule == rule]
    return one


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return run_folder(tmp_path_factory.mktemp("good") / "run", GOOD)


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [
        ({"min_speedup": 2.0}, "pass"),
        ({"min_speedup": 3.0}, "fail"),
        ({"min_speedup": 2.5}, "cannot_tell"),
        ({"max_latency_ratio": 0.45}, "pass"),
        ({"max_latency_ratio": 0.35}, "fail"),
        ({"max_drop_pt": 2.0}, "pass"),
        ({"max_drop_pt": -2.0}, "fail"),
        ({"max_drop_pt": 0.5}, "cannot_tell"),
        ({"min_top1": 0.9}, "pass"),
        ({"min_top1": 0.999}, "fail"),
        ({"min_agreement": 0.97}, "pass"),
        ({"min_agreement": 0.998}, "cannot_tell"),
        ({"max_negative_flips": 0.02}, "pass"),
        ({"max_negative_flips": 0.0}, "fail"),
        ({"max_size_ratio": 1.0}, "pass"),
        ({"max_size_ratio": 0.5}, "fail"),
        ({"max_size_bytes": 999_999}, "fail"),
        ({"max_memory_ratio": 1.0}, "pass"),
        ({"max_memory_bytes": 1}, "fail"),
        ({"max_cold_start_ratio": 1.1}, "pass"),
        ({"min_snr_db": 40}, "pass"),
        ({"min_snr_db": 50}, "fail"),
        ({"min_int8_conv_share": 1.0}, "pass"),
        ({"require_parity": True}, "pass"),
    ],
)
def test_each_limit_is_an_interval_test(good, limit, verdict):
    found = judged(good, {"int8": limit})
    assert found.verdict == verdict, found.summary()
    assert found.exit_code == {"pass": 0, "fail": 1, "cannot_tell": 3}[verdict]


def test_the_interval_of_a_verdict_lies_on_one_side(good):
    found = judged(good, {"int8": {"min_speedup": 2.0, "max_drop_pt": 2.0, "min_agreement": 0.5}})
    for one in found.findings:
        inside = one.high < one.limit if one.most else one.low > one.limit
        assert inside, one
    levels = sorted(one.level for one in found.findings)
    assert levels == pytest.approx([0.95, 0.975, 1 - 0.05 / 3])  # Holm over the three


def test_what_is_undecided_says_what_would_settle_it(good):
    drop = only(judged(good, {"int8": {"max_drop_pt": 1.0}}), "max_drop_pt")
    assert drop.verdict == "cannot_tell"
    more = int(re.fullmatch(r"about ([\d,]+) more images", drop.more)[1].replace(",", ""))
    from deploykit.stats.proportions import paired_p

    factor = (450 + more) / 450
    assert paired_p(factor, 0, 450 * factor, 0.01) == pytest.approx(0.05, rel=0.05)
    speed = only(judged(good, {"int8": {"min_speedup": 2.498}}), "min_speedup")
    assert re.fullmatch(r"about [\d,]+ more blocks", speed.more)
    assert "would settle it" in judged(good, {"int8": {"max_drop_pt": 1.0}}).summary()


def test_every_variant_but_the_baseline_and_single_limits_over_it(good):
    found = judged(good, {"*": {"max_drop_pt": 5.0, "max_size_ratio": 0.1}, "int8": {"max_size_ratio": None}})
    assert [(one.variant, one.rule) for one in found.findings] == [("int8", "max_drop_pt")]
    found = judged(good, {"fp32": {"min_top1": 0.9}})
    assert [(one.variant, one.rule) for one in found.findings] == [("fp32", "min_top1")]
    assert any("int8 is not judged" in note for note in found.notes)


def test_missing_and_renamed_variants_fail(tmp_path, good):
    found = judged(good, {"int8-v2": {"min_speedup": 1.0}})
    assert found.verdict == "fail"
    assert only(found, "presence").reason == (
        "it is not in the report, and the policy names it; was it renamed to int8?"
    )
    old = run_folder(tmp_path / "old", {**GOOD, "pruned": {}})
    found = judged(good, {"*": {"max_drop_pt": 5}}, old)
    assert "the baseline report has it" in only(found, "presence").reason
    assert judged(good, {"*": {"max_drop_pt": 5}}, old, ignore=("pruned",)).verdict == "pass"
    assert judged(good, {"*": {"max_drop_pt": 5}}, required=("fp16",)).verdict == "fail"


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_a_variant_that_did_not_run_fails(tmp_path, status):
    fields = {"status": status, "reason": "no such device here"}
    run = run_folder(tmp_path / "run", {"fp32": {}, "int8": {"fields": fields}})
    found = judged(run, {"*": {"max_drop_pt": 5}})
    assert found.verdict == "fail"
    assert only(found, "status").reason == f"{status}: no such device here"
    lenient = judged(run, {"*": {"max_drop_pt": 5}}, skipped="ignore")
    assert lenient.verdict == ("pass" if status == "skipped" else "fail")


def test_zero_samples_and_zero_images_fail(tmp_path):
    run = run_folder(tmp_path / "run", GOOD, n=0, rounds=0)
    found = judged(run, {"int8": {"min_speedup": 1.0, "max_drop_pt": 1.0, "min_top1": 0.5, "min_agreement": 0.5}})
    assert {one.verdict for one in found.findings} == {"fail"}
    assert "accuracy was not measured" in only(found, "max_drop_pt").reason


def test_four_blocks_cannot_tell(tmp_path):
    run = run_folder(tmp_path / "run", GOOD, rounds=4)
    found = only(judged(run, {"int8": {"min_speedup": 1.0}}), "min_speedup")
    assert (found.verdict, found.reason) == ("cannot_tell", "only 4 blocks were timed, an interval needs 5")


def test_nan_in_the_raw_numbers_fails(tmp_path):
    run = run_folder(tmp_path / "run", GOOD)
    with np.load(run / "samples/int8.npz") as file:
        samples, rounds = file["samples_ms"].copy(), file["round"]
    samples[5] = np.nan
    np.savez(run / "samples/int8.npz", samples_ms=samples, round=rounds)
    assert "NaN" in only(judged(run, {"int8": {"min_speedup": 1.0}}), "raw data").reason
    run = run_folder(tmp_path / "other", GOOD)
    with np.load(run / "logits/int8.npz") as file:
        arrays = {key: file[key] for key in file.files}
    arrays["logits"] = arrays["logits"].copy()
    arrays["logits"][400, 3] = np.nan
    np.savez(run / "logits/int8.npz", **arrays)
    assert "NaN or infinite logits" in only(judged(run, {"int8": {"max_drop_pt": 1.0}}), "raw data").reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda one: one["measurements"][0].update(p50_ms=0.1), "states p50_ms 0.1, samples/int8.npz gives"),
        (lambda one: one["accuracy"].update(top1=0.98), "states top1 0.98, logits/int8.npz gives"),
        (lambda one: one["speedup"].update(estimate=2.9, high=3.0), "states a speed-up of 2.9, the raw samples give"),
        (lambda one: one["accuracy"].update(drop_pt=0.1), "states drop_pt 0.1, the logits give"),
    ],
)
def test_edited_numbers_fail_by_name(tmp_path, change, reason):
    run = run_folder(tmp_path / "run", GOOD)
    report = json.loads((run / "report.json").read_text())
    change(report["variants"][1])
    (run / "report.json").write_text(json.dumps(report))
    found = judged(run, {"int8": {"max_size_ratio": 2}})
    reasons = [one.reason for one in found.findings if one.rule == "raw data" and one.variant == "int8"]
    assert any(reason in one for one in reasons), reasons
    assert any("report.json was changed since deploykit wrote it" in one for one in reasons)


def test_a_truncated_sample_file_fails(tmp_path):
    run = run_folder(tmp_path / "run", GOOD)
    content = (run / "samples/int8.npz").read_bytes()
    (run / "samples/int8.npz").write_bytes(content[: len(content) // 2])
    assert "it may be truncated" in only(judged(run, {"int8": {"min_speedup": 1}}), "raw data").reason


def test_a_lone_report_is_judged_from_what_it_states(tmp_path, good):
    lone = tmp_path / "report.json"
    lone.write_bytes((good / "report.json").read_bytes())
    found = judged(lone, {"int8": {"min_speedup": 2.0, "max_drop_pt": 2.0, "min_agreement": 0.9}})
    assert found.verdict == "pass", found.summary()
    assert only(found, "min_speedup").source == "the stated interval, taken as normal"
    assert only(found, "max_drop_pt").source == "the stated counts"
    full = judged(good, {"int8": {"min_speedup": 2.0}})
    near = judged(lone, {"int8": {"min_speedup": 2.0}})
    assert only(near, "min_speedup").low == pytest.approx(only(full, "min_speedup").low, rel=0.01)


def test_against_an_older_report_times_are_compared_as_ratios(tmp_path):
    new = run_folder(tmp_path / "new", {"fp32": {"factor": 3.0}, "int8": {"factor": 1.2}})  # a slower machine
    old = run_folder(tmp_path / "old", {"fp32": {}, "int8": {"factor": 0.4}})
    assert judged(new, {"int8": {"max_latency_ratio_vs_baseline": 1.05}}, old).verdict == "pass"
    slower = run_folder(
        tmp_path / "slower", {"fp32": {"factor": 0.1}, "int8": {"factor": 0.05}}
    )  # 25 % slower, not 8x faster
    found = judged(slower, {"int8": {"max_latency_ratio_vs_baseline": 1.05}}, old)
    assert found.verdict == "fail"
    assert only(found, "max_latency_ratio_vs_baseline").value == pytest.approx(1.25, rel=0.03)
    other = judged(slower, {"int8": {"max_latency_ratio_vs_baseline": 1.05}}, old, reference="eager")
    assert "no variant 'eager' to divide times by" in other.findings[0].reason


def test_against_an_older_report_images_are_paired(tmp_path):
    new = run_folder(tmp_path / "new", {"fp32": {}, "int8": {"lost": 12, "seed": 5}}, n=2000)
    old = run_folder(tmp_path / "old", {"fp32": {}, "int8": {"lost": 0}}, n=2000)
    found = only(judged(new, {"int8": {"max_drop_pt_vs_baseline": 0.2}}, old), "max_drop_pt_vs_baseline")
    assert (found.verdict, found.source, found.value) == ("fail", "logits", pytest.approx(0.6))
    (tmp_path / "lone.json").write_bytes((old / "report.json").read_bytes())
    unpaired = judged(new, {"int8": {"max_drop_pt_vs_baseline": 0.2}}, tmp_path / "lone.json")
    assert only(unpaired, "max_drop_pt_vs_baseline").verdict == "cannot_tell"  # it knows less
    same = judged(old, {"int8": {"max_drop_pt_vs_baseline": 0.0}}, old)
    assert only(same, "max_drop_pt_vs_baseline").verdict == "pass"


def test_limits_against_an_older_report_need_one(good):
    found = judged(good, {"int8": {"max_drop_pt_vs_baseline": 1.0, "max_size_ratio": 2}})
    assert [one.rule for one in found.findings] == ["max_size_ratio"]
    assert "max_drop_pt_vs_baseline of int8 is not judged: no --baseline report was given" in found.notes


def test_beside_its_other_side_a_variant_is_compared_in_the_same_rounds(tmp_path):
    """``benchmark --against`` measures NAME and NAME@base together."""
    sides = {"fp32": {}, "int8": {"factor": 0.44, "lost": 3}, "int8@base": {"factor": 0.4}}
    run = run_folder(tmp_path / "run", sides)
    limits = {"int8": {"max_latency_ratio_vs_baseline": 1.05, "max_drop_pt_vs_baseline": 5.0}}
    found = judged(run, limits)
    assert [(one.rule, one.verdict) for one in found.findings] == [
        ("max_drop_pt_vs_baseline", "pass"),
        ("max_latency_ratio_vs_baseline", "fail"),
    ]
    assert only(found, "max_latency_ratio_vs_baseline").value == pytest.approx(1.1, rel=0.01)
    gone = run_folder(tmp_path / "gone", {"fp32": {}, "int8@base": {}})
    assert only(judged(gone, {"*": {"max_drop_pt": 5}}), "presence").variant == "int8"


def test_two_copies_that_differ_widen_what_is_claimed_of_times(tmp_path):
    run = run_folder(tmp_path / "run", {"fp32": {}, "int8": {"factor": 0.97}})
    assert judged(run, {"int8": {"max_latency_ratio": 1.0}}).verdict == "pass"
    report = json.loads((run / "report.json").read_text())
    (run / "report.json.manifest.json").unlink()
    (run / "report.json").write_text(json.dumps({**report, "noise_floor_ratio": 0.05}))
    assert judged(run, {"int8": {"max_latency_ratio": 1.0}}).verdict == "cannot_tell"


def test_a_baseline_without_the_variant_fails_what_is_asked_of_it_by_name(tmp_path, good):
    old = run_folder(tmp_path / "old", {"fp32": {}})
    found = judged(good, {"int8": {"max_drop_pt_vs_baseline": 5.0}}, old)
    assert only(found, "max_drop_pt_vs_baseline").reason == "the baseline report has no such variant"
    assert found.verdict == "fail"
    new = judged(good, {"*": {"max_drop_pt_vs_baseline": 5.0, "max_size_ratio": 2}}, old)  # a variant may be new
    assert new.verdict == "pass"
    assert "max_drop_pt_vs_baseline of int8 is not judged: the baseline report has no such variant" in new.notes


def test_other_data_is_refused(tmp_path, good):
    old = run_folder(tmp_path / "old", GOOD, sha256="77aa" * 16)
    with pytest.raises(BadInput, match=r"measured on other data.*3f8a3f8a3f8a.*77aa77aa77aa.*the same images"):
        judged(good, {"*": {"max_drop_pt": 1}}, old)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no report: it is no JSON"),
        ('{"schema": "deploykit.report/99"}', "made by a newer deploykit"),
        ('{"schema": "deploykit.report/0"}', "of a schema we no longer read"),
        ('{"schema": "other"}', "is no deploykit report"),
    ],
)
def test_reports_that_cannot_be_read_are_refused(tmp_path, text, message):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(BadInput, match=message):
        judged(tmp_path, {"*": {"max_drop_pt": 1}})


def test_the_measurement_can_be_chosen(good):
    found = judged(good, {"int8": {"min_speedup": 1.0}}, measurement={"timed": "end_to_end"})
    assert only(found, "min_speedup").verdict == "fail"
    assert "not measured: " in only(found, "min_speedup").reason
    assert "timed end_to_end" in only(found, "min_speedup").reason
    assert judged(good, {"int8": {"min_speedup": 1.0}}, measurement={"batch": 1}).verdict == "pass"


def test_the_forms_for_ci(tmp_path, good, monkeypatch, capsys):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    policy = GatePolicy(
        version=1, name="p", limits={"int8": {"min_speedup": 3.0, "max_drop_pt": 1.0, "max_size_ratio": 2}}
    )
    result = gate(good, tmp_path / "out", GateConfig(policy=policy))
    assert result.exit_code == 1
    assert {path.name for path in result.files} == {
        "gate.md",
        "gate.junit.xml",
        "gate.metrics.txt",
        "gate.action-benchmark.json",
        "gate.bencher.json",
        "gate.json",
    }
    comment = (tmp_path / "out/gate.md").read_text()
    assert comment.splitlines()[1].startswith(
        "## ❌ deploykit gate: fail: 1 of 3 limits on 1 variant broken, 1 undecided"
    )
    assert comment.index("min\\_speedup" if "min\\_speedup" in comment else "`min_speedup`") < comment.index(
        "<details>"
    )
    assert (tmp_path / "summary.md").read_text().strip() == comment.strip()
    suites = ET.parse(tmp_path / "out/gate.junit.xml").getroot()
    assert (suites.get("tests"), suites.get("failures"), suites.get("errors")) == ("3", "1", "1")
    annotations = capsys.readouterr().err.splitlines()
    assert annotations[0].startswith("::error title=int8%3A min_speedup fail::2.")
    assert any(line.startswith("::warning title=int8%3A max_drop_pt cannot tell::") for line in annotations)
    assert all("%25" in line for line in annotations if " %" in line)
    metrics = (tmp_path / "out/gate.metrics.txt").read_text()
    assert metrics.endswith("# EOF\n")
    ratio = float(re.search(r'deploykit_time_ratio\{variant="int8"\} (\S+)', metrics)[1])
    assert ratio == pytest.approx(0.4, rel=0.02)
    assert "_ms" not in metrics  # milliseconds are never compared over time
    bencher = json.loads((tmp_path / "out/gate.bencher.json").read_text())
    assert bencher["int8"]["time-ratio"]["lower_value"] < ratio < bencher["int8"]["time-ratio"]["upper_value"]
    action = json.loads((tmp_path / "out/gate.action-benchmark.json").read_text())
    assert {"name", "unit", "value"} <= set(action[0])
    whole = json.loads((tmp_path / "out/gate.json").read_text())
    assert (whole["schema"], whole["verdict"], len(whole["findings"])) == ("deploykit.gate/1", "fail", 3)
    gate(good, tmp_path / "out", GateConfig(policy=policy, annotations="none"))  # ours are replaced
    (tmp_path / "out/gate.json").write_text("{}")
    with pytest.raises(BadInput, match="was modified since"):
        gate(good, tmp_path / "out", GateConfig(policy=policy, annotations="none"))


def test_hostile_names_stay_text(tmp_path):
    evil = "<script>|`*@all--> \x01"
    run = run_folder(tmp_path / "run", {"fp32": {}, "int8": {}})
    report = json.loads((run / "report.json").read_text())
    report["variants"][1]["name"] = evil
    (run / "report.json.manifest.json").unlink()
    (run / "report.json").write_text(json.dumps(report))
    policy = GatePolicy(version=1, name="p-->", limits={"*": {"min_speedup": 3.0}})
    gate(run, tmp_path / "out", GateConfig(policy=policy, annotations="none"))
    comment = (tmp_path / "out/gate.md").read_text()
    assert "<script>" not in comment
    assert "@all" not in comment
    ET.parse(tmp_path / "out/gate.junit.xml")


def test_retry_without_the_artifacts_is_refused(good):
    policy = GatePolicy(version=1, limits={"int8": {"min_speedup": 2.498}})
    with pytest.raises(BadInput, match="does not tell how it was measured"):
        gate(good, None, GateConfig(policy=policy, retry=1, annotations="none"))


def test_undecided_images_are_not_measured_again(good):
    policy = GatePolicy(version=1, limits={"int8": {"max_drop_pt": 1.0}})
    found = gate(good, None, GateConfig(policy=policy, retry=3, annotations="none")).gate
    assert (found.verdict, found.looks) == ("cannot_tell", 1)
    assert only(found, "max_drop_pt").level == pytest.approx(1 - 0.05 / 4)  # the error is shared among the looks


def test_retry_measures_the_same_artifacts_again(tmp_path, tiny_model, digits_npz):
    """Real engines: a limit on the ratio that lies at 1 is undecided after a short look, and is measured on."""
    from deploykit.commands.benchmark import benchmark
    from deploykit.commands.export import export
    from deploykit.config.benchmark import BenchmarkConfig
    from deploykit.config.export import ExportConfig

    engine = tmp_path / "net.onnx"
    export(tiny_model, engine, ExportConfig())
    (tmp_path / "copy.onnx").write_bytes(engine.read_bytes())
    short = {"max_time_s": 0.5, "min_blocks": 5, "block_ms": 2.0, "end_to_end": False}
    specs = [f"fp32={engine}", f"copy={tmp_path / 'copy.onnx'}", f"taken={engine}"]
    run = tmp_path / "run"
    accepting = BenchmarkConfig(data=str(digits_npz), accept_variants=("taken",), **short)
    first = benchmark(specs, run, accepting).report
    estimate = first.variant("copy").speedup.estimate
    policy = GatePolicy(version=1, limits={"copy": {"min_speedup": estimate}})
    asked = GateConfig(policy=policy, retry=1, retry_time_s=0.5, data=str(digits_npz), annotations="none")
    found = gate(run, None, asked).gate
    assert found.looks == 2
    speed = only(found, "min_speedup")
    assert speed.value != pytest.approx(estimate, abs=1e-12)  # pooled with the second measurement
    assert read_report(run) == first  # the report stays what it was
    (tmp_path / "copy.onnx").write_bytes(engine.read_bytes() + b" ")
    with pytest.raises(BadInput, match="was changed since it was measured"):
        gate(run, None, asked)
