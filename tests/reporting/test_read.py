from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit.base.errors import BadInput
from deploykit.reporting import read
from deploykit.reporting.read import plain, read_report, validate
from tests.reporting import sample


def write(folder: Path, report: Any) -> Path:
    path = folder / "report.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    return path


def test_a_report_comes_back_from_file_and_folder(tmp_path: Path) -> None:
    made = validate(sample.report())
    path = write(tmp_path, made.plain())
    assert read_report(path) == made
    assert read_report(tmp_path) == made
    assert validate(made.plain()) == made


def test_what_was_left_out_is_null_or_empty() -> None:
    least = {
        "schema": "deploykit.report/2",
        "created": "2026-01-01",
        "variants": [{"name": "a", "target": "ort-cpu", "status": "skipped", "reason": "no GPU"}],
    }
    full = validate(least)
    assert full.pick is None
    assert full.variants[0].measurements == []
    assert full.ci_level == 0.95


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no report: it is empty"),
        (b'{"schema": "deploykit.report/2", "vari', "is no report: it is no JSON"),
        (b"\xff\xfe\x00", "it is no UTF-8 text"),
        (b"[1, 2]", "is no deploykit report; got a JSON list"),
        (b"null", "is no deploykit report; got a JSON NoneType"),
        (b'{"schema": "deploykit.manifest/1"}', "got schema 'deploykit.manifest/1'"),
        (b'{"schema": 1}', "is no deploykit report; got schema '1'"),
        (b'{"schema": "deploykit.report/\xc2\xb2"}', "is no deploykit report"),
        (b'{"schema": "deploykit.report/3"}', "made by a newer deploykit; got deploykit.report/3; expected"),
        (b'{"schema": "deploykit.report/0"}', "of a schema we no longer read; got deploykit.report/0"),
        (b'{"schema": "deploykit.report/2", "ci_level": NaN}', r"it is no JSON \(it holds NaN\)"),
        (b"[" * 200_000, "is no report"),
    ],
)
def test_foreign_files_are_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(BadInput, match=message) as caught:
        read_report(tmp_path)
    assert "\n" not in caught.value.line()


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"report.json does not exist"):
        read_report(tmp_path)
    with pytest.raises(BadInput, match=r"nowhere.json does not exist"):
        read_report(tmp_path / "nowhere.json")


def changed(path: str, value: Any) -> dict[str, Any]:
    """A report with one field replaced, named as ``variants.1.accuracy.top1``."""
    made = sample.report()
    place: Any = made
    *way, last = path.split(".")
    for part in way:
        place = place[int(part)] if isinstance(place, list) else place[part]
    place[last] = value
    return made


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("variants.1.accuracy.top1", 98.9, r"variants.1.accuracy.top1: got 98.9, expected less than or equal to 1"),
        ("variants.1.accuracy.top1", "0.9", r"variants.1.accuracy.top1: got '0.9', expected a valid number"),
        ("variants.1.accuracy.top1", 0.2, "top1_low, top1, top1_high are not in order"),
        ("variants.3.measurements.0.p50_ms", -1.0, "p50_ms: got -1.0, expected greater than 0"),
        ("variants.3.measurements.0.p99_ms", 0.1, "p50_ms, p90_ms, p99_ms are not in order"),
        ("variants.3.measurements.0.n", 1.5, "n: got 1.5, expected a valid integer"),
        ("variants.3.measurements.0.samples_file", "../../etc/passwd", "expected a path inside the report's folder"),
        ("variants.3.measurements.0.samples_file", "/etc/passwd", "expected a path relative to the report"),
        ("variants.3.artifact.path", "C:/x.onnx", "expected a path relative to the report"),
        ("variants.3.speedup.low", 99.0, "speedup low, high are not in order"),
        ("variants.3.status", "fine", "status: got 'fine', expected 'ok', 'unsure', 'failed' or 'skipped'"),
        ("variants.3.status", "failed", "variant 'int8' is failed without a reason"),
        ("variants.3.target", "gpu", "target: got 'gpu'"),
        ("variants.3.name", "fp32", "variant names occur twice: fp32"),
        ("variants.3.colour", "red", "unknown key 'variants.3.colour'"),
        ("variants", [], "variants: got"),
        ("pareto", ["nobody"], "pareto names 'nobody', which is no variant"),
        ("baseline", "nobody", "baseline names 'nobody'"),
        ("pick", {"name": "nobody", "why": ""}, "pick names 'nobody'"),
        ("pick", {"name": "int8"}, "pick.why is missing"),
        ("seed", math.inf, "holds NaN or infinity"),
    ],
)
def test_edited_values_are_found(path: str, value: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        validate(changed(path, value))


def test_a_failed_variant_is_no_pick() -> None:
    made = sample.report()
    made["variants"][3] |= {"status": "failed", "reason": "NaN"}
    with pytest.raises(BadInput, match="pick names 'int8', whose status is failed"):
        validate(made)


def test_many_errors_are_counted_and_long_values_cut() -> None:
    made = sample.report()
    for variant in made["variants"]:
        variant["macs"] = "x" * 1000
        variant["params"] = -1
    with pytest.raises(BadInput, match="and 7 more") as caught:
        validate(made)
    assert len(caught.value.line()) < 1500


def test_older_reports_are_migrated_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(report: dict[str, Any]) -> dict[str, Any]:
        report = {**report, "schema": "deploykit.report/1"}
        report["baseline"] = report.pop("base")
        return report

    monkeypatch.setitem(read.MIGRATIONS, 0, rename)
    old = sample.report()
    old["schema"], old["base"] = "deploykit.report/0", old.pop("baseline")
    assert validate(old) == validate({**sample.report(), "schema": "deploykit.report/1"})


STORED = Path(__file__).parent / "stored" / "report_1.json"


def test_a_stored_report_of_version_1_is_read_as_one_of_today(tmp_path: Path) -> None:
    """It was written by a deploykit of its time: a benchmark of five variants, one failed and one skipped."""
    old = json.loads(STORED.read_text(encoding="utf-8"))
    report = read_report(write(tmp_path, old))
    assert (report.plain()["schema"], report.task) == ("deploykit.report/2", "classify")
    assert [one.status for one in report.variants] == [one["status"] for one in old["variants"]]
    assert not any(one.accepted or one.judged_among or one.verdict for one in report.variants)
    known = 0
    for variant, before in zip(report.variants, old["variants"], strict=True):
        accuracy, quality = before["accuracy"], variant.quality
        if accuracy is None:
            assert quality is None
            continue
        known += 1
        assert (quality.metric, quality.value, quality.n, quality.split) == ("top1", accuracy["top1"], 64, "test")
        assert (quality.low, quality.high) == (accuracy["top1_low"], accuracy["top1_high"])
        assert [getattr(quality, key) for key in ("drop_pt", "drop_pt_low", "drop_pt_high")] == [
            accuracy[key] for key in ("drop_pt", "drop_pt_low", "drop_pt_high")
        ]
        assert variant.accuracy.split == "test"
        assert variant.parity is None or variant.parity.split == "test"
    assert known == 4
    again = report.plain()
    assert validate(again) == report
    assert {key: again[key] for key in ("pick", "pareto", "baseline")} == {
        key: old[key] for key in ("pick", "pareto", "baseline")
    }


def test_the_shipped_result_of_version_1_is_read() -> None:
    report = read_report(Path(__file__).parents[2] / "recipes" / "results" / "gpu_h200.json")
    assert all(one.quality is not None for one in report.variants if one.accuracy)


@pytest.mark.parametrize("broken", [{"variants": 1}, {"data": []}, {"variants": [None]}, {"variants": [{"parity": 3}]}])
def test_a_broken_report_of_version_1_is_still_one_line(broken: dict[str, Any]) -> None:
    old = json.loads(STORED.read_text(encoding="utf-8"))
    with pytest.raises(BadInput, match="does not fit"):
        validate({**old, **broken})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PLACES: list[Callable[[dict[str, Any], Any], None]] = [
    lambda report, value: report.update(variants=value),
    lambda report, value: report.update(environment=value),
    lambda report, value: report["variants"].append(value),
    lambda report, value: report["variants"][0].update(steps=[value]),
    lambda report, value: report["variants"][0].update(accuracy=value),
    lambda report, value: report["variants"][0].update(audit=value),
    lambda report, value: report["variants"][3]["speedup"].update(of=value),
]


@settings(max_examples=80)
@given(JSON, st.sampled_from(PLACES))
def test_no_value_anywhere_is_a_crash(value: Any, place: Callable[[dict[str, Any], Any], None]) -> None:
    from deploykit.reporting.html import to_html
    from deploykit.reporting.markdown import to_markdown

    made = sample.report()
    place(made, value)
    try:
        checked = validate(made)
    except BadInput:
        return
    assert to_html(checked, Path("/nowhere"))
    assert to_markdown(checked)


def test_numbers_of_numpy_and_those_that_are_none_become_plain() -> None:
    made = plain({"a": np.float32(0.5), "b": np.int64(3), "c": (math.inf, math.nan), "d": np.bool_(True), "e": None})
    assert made == {"a": 0.5, "b": 3, "c": [None, None], "d": True, "e": None}
    with pytest.raises(TypeError, match="a report cannot hold"):
        plain(Path("a"))
