from __future__ import annotations

import json
import os

import jsonschema
import pytest

from deploykit.base.targets import PRECISIONS, TARGETS
from deploykit.reporting.part import Part
from deploykit.reporting.read import validate
from deploykit.reporting.schema import MEASURED, SCHEMA_FILE, Report, Variant, json_schema
from tests.reporting import sample


def test_the_shipped_schema_is_that_of_the_models() -> None:
    made = json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("DEPLOYKIT_UPDATE_GOLDEN"):
        SCHEMA_FILE.write_text(made, encoding="utf-8")
    assert SCHEMA_FILE.read_text(encoding="utf-8") == made, (
        "the report's schema changed: raise its version if old reports no longer fit, "
        "then run this test with DEPLOYKIT_UPDATE_GOLDEN=1"
    )


@pytest.mark.parametrize("count", [1, 6, 15])
def test_reports_fit_the_shipped_schema(count: int) -> None:
    shipped = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(shipped)
    validator = jsonschema.Draft202012Validator(shipped)
    validator.validate(sample.report(count))
    validator.validate(sample.all_failed())
    broken = sample.report(count)
    broken["variants"][0]["status"] = "fine"
    assert not validator.is_valid(broken)


def test_the_words_of_the_schema_are_those_of_the_targets() -> None:
    variant = json_schema()["$defs"]["Variant"]["properties"]
    assert variant["target"]["enum"] == list(TARGETS)
    assert variant["precision"]["anyOf"][0]["enum"] == list(PRECISIONS)


@pytest.mark.parametrize("part", [Report, Variant])
def test_what_differs_between_runs_comes_last(part: type[Part]) -> None:
    measured = [name in MEASURED for name in part.model_fields if name != "against" or part is Variant]
    assert measured == sorted(measured)
    assert any(measured)
    assert set(MEASURED) <= {*Report.model_fields, *Variant.model_fields}


def test_only_times_and_what_hangs_on_them_are_left_out_of_what_repeats() -> None:
    made = validate(sample.report())
    again = made.model_copy(deep=True)
    again.created, again.pick, again.conditions = "2027-01-01", None, {"load_of_others": 0.5}
    again.variants[3].measurements, again.variants[3].speedup, again.variants[3].notes = [], None, ["busy"]
    assert again.repeatable() == made.repeatable()
    for change in ({"status": "unsure", "reason": "x"}, {"accepted": True}, {"parity": None}, {"artifact": None}):
        other = made.model_copy(deep=True)
        other.variants[3] = other.variants[3].model_copy(update=change)
        assert other.repeatable() != made.repeatable(), change


def test_every_field_that_the_design_names_is_there() -> None:
    fields = json_schema()["$defs"]
    wanted = {
        "Measurement": "scenario batch threads timed clock n warmup blocks p50_ms p50_ms_low p50_ms_high p90_ms p99_ms "
        "mean_ms throughput_per_s energy_mj samples_file",
        "Accuracy": "n top1 top1_low top1_high top5 macro_f1 macro_precision macro_recall ece drop_pt drop_pt_low "
        "drop_pt_high agreement negative_flips mcnemar_p logits_file",
        "Parity": "reference n max_abs mean_abs cosine snr_db identical top1_agreement by_batch ok",
        "Variant": "name target precision steps status reason accepted artifact params macs cold_start_ms "
        "peak_memory_bytes measurements speedup quality judged_among accuracy parity verdict audit attachments notes",
        "Quality": "metric value low high drop_pt drop_pt_low drop_pt_high n split",
        "Speedup": "estimate low high of",
    }
    for name, words in wanted.items():
        assert set(words.split()) <= set(fields[name]["properties"])
    top = "schema created task recipe environment data ci_level seed noise_floor_ratio stop_reason warnings baseline variants"
    assert {*top.split(), "pareto", "pick"} <= set(json_schema()["properties"])
    assert Report.model_config["extra"] == "forbid"
