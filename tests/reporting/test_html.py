from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.reporting import write_report
from deploykit.reporting.html import to_html
from deploykit.reporting.pages import settings, when
from deploykit.reporting.read import validate
from tests.reporting import sample

VOID = {"meta", "link", "br", "circle", "rect", "path", "line"}


class Page(HTMLParser):
    """Collects tags and attributes, and checks that every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.shown: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.shown.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.shown).split())


def page(report: dict[str, Any], folder: Path, samples: bool = True) -> Page:
    if samples:
        sample.write_samples(report, folder)
    write_report(validate(report), folder)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_tells_all(tmp_path: Path) -> None:
    text = page(sample.report(), tmp_path).text
    for piece in (
        "int8 is 2.41× the speed of fp32 and costs 0.22 pt of top-1.",
        "speed-up 2.37 … 2.45×, drop −0.23 … +0.68 pt; the budget is 1 pt",
        "the clock frequency changed while timing",
        "single stream, batch 1, 1 thread, compute only, host clock",
        "±0.61 % of the time",
        "every speed-up interval is within ±2 %",
        "450 images, digits (test)",
        "deploykit export --config stages/int8.export.yaml",
        "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz, 2 cores",
        "onnxruntime-gpu 1.31.1",
        "2 threads were no faster",
        "SNR 31.2 dB",
        "Measured 2026-03-14 09:26 UTC",
    ):
        assert piece in text, piece


@pytest.mark.parametrize("count", [1, 2, 15])
def test_it_is_one_small_page_without_network_or_script(tmp_path: Path, count: int) -> None:
    found = page(sample.report(count), tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 200_000
    assert "script" not in found.tags
    assert {"img", "iframe", "object", "embed", "form", "base"}.isdisjoint(found.tags)
    links = [value for _, key, value in found.attributes if key in ("href", "src", "srcset", "action", "data")]
    assert all(link.startswith(("./", "data:,")) for link in links)
    content = (tmp_path / "report.html").read_text()
    assert "@import" not in content
    assert "url(" not in content
    assert content.replace("http://www.w3.org/2000/svg", "").count("http") == 1  # http-equiv


def test_it_names_itself_for_readers_of_all_kinds(tmp_path: Path) -> None:
    found = page(sample.report(), tmp_path)
    assert ("html", "lang", "en") in found.attributes
    assert found.tags.count("h1") == 1
    assert "<title>quickstart on digits · deploykit report</title>" in (tmp_path / "report.html").read_text()
    drawings = [value for tag, key, value in found.attributes if tag == "svg" and key == "role"]
    assert drawings == ["img"] * 4
    ids = {value for _, key, value in found.attributes if key == "id"}
    assert {value for _, key, value in found.attributes if key == "aria-labelledby"} <= ids
    assert len(ids) == sum(key == "id" for _, key, _ in found.attributes)


def test_hostile_names_are_only_text(tmp_path: Path) -> None:
    made = sample.hostile()
    found = page(made, tmp_path)
    assert "script" not in found.tags
    assert "<script>alert('x')</script>" in found.text
    assert not any(key.startswith("on") for _, key, _ in found.attributes)
    links = [value for tag, key, value in found.attributes if tag == "a" and key == "href"]
    assert links == ["./javascript%3Aalert%281%29"] * 4


def test_without_accuracy_or_latency_it_shows_what_there_is(tmp_path: Path) -> None:
    made = sample.report(3)
    for variant in made["variants"]:
        variant["accuracy"] = variant["quality"] = None
    made["pick"], made["pareto"] = None, []
    found = page(made, tmp_path)
    assert "No variant can be recommended." in found.text
    assert "Accuracy against latency" not in found.text
    assert "Latency distributions" in found.text
    for variant in made["variants"]:
        variant["measurements"], variant["speedup"] = [], None
    assert "Nothing was measured." in page(made, tmp_path).text
    assert "svg" not in page(made, tmp_path).tags


def test_what_is_not_ok_is_marked_everywhere(tmp_path: Path) -> None:
    made = sample.report(6)
    changes = [("failed", False), ("unsure", False), ("failed", True)]
    for variant, (status, accepted) in zip(made["variants"][3:], changes, strict=True):
        variant |= {"status": status, "reason": f"why {variant['name']}", "accepted": accepted}
    made["pick"] = {"name": "pruned50-int8", "why": "told"}
    made["variants"][0]["judged_among"] = {"classes": ["cat", "dog"], "of": 1000}
    text = page(made, tmp_path).text
    for piece in (
        "Failed, not to be used int8 : why int8",
        "Unsure: what was seen does not decide pruned50 : why pruned50",
        "Accepted by hand pruned50-int8 : why pruned50-int8",
        "It failed and was accepted by hand: why pruned50-int8.",
        "2 of the 1,000 classes only: cat, dog.",
        "int8 failed ort-cpu",
        "pruned50 unsure ort-cpu",
        "pruned50-int8 pick failed, accepted ort-cpu",
    ):
        assert piece in text, piece
    words = (tmp_path / "report.md").read_text(encoding="utf-8")
    for piece in ("int8 (failed)", "pruned50 (unsure)", "(failed, accepted)", "cat, dog", "0.407 ms"):
        assert piece in words, piece
    svg = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'class="point failed"' in svg
    assert 'class="point unsure"' in svg


def test_all_failed_says_so(tmp_path: Path) -> None:
    found = page(sample.all_failed(), tmp_path)
    assert "Every variant failed." in found.text
    assert found.text.count("worst image 17") == 6


def test_missing_and_hostile_sample_files_are_left_out(tmp_path: Path) -> None:
    made = sample.report(5)
    sample.write_samples(made, tmp_path)
    names = [variant["measurements"][0]["samples_file"] for variant in made["variants"]]
    (tmp_path / names[0]).unlink()
    (tmp_path / names[1]).write_bytes(b"PK\x03\x04 truncated")
    np.savez(tmp_path / names[2], samples_ms=np.array([object()], dtype=object))
    outside = tmp_path.parent / "outside.npz"
    np.savez(outside, samples_ms=np.ones(10))
    (tmp_path / names[3]).unlink()
    (tmp_path / names[3]).symlink_to(outside)
    found = page(made, tmp_path, samples=False)
    assert "No raw samples here for eager, fp32, compiled, int8" in found.text
    assert "Latency distributions" in found.text


def test_a_long_table_of_classes_is_cut(tmp_path: Path) -> None:
    made = sample.report(1)
    one = {"n": 3, "precision": 1.0, "recall": 1.0, "f1": 1.0}
    made["variants"][0]["accuracy"]["per_class"] = [{"name": f"class {i}", **one} for i in range(150)]
    assert "The 100 worst of 150 classes" in page(made, tmp_path).text


def test_custom_metrics_have_their_columns(tmp_path: Path) -> None:
    made = sample.report(2)
    made["variants"][0]["accuracy"]["metrics"] = {"mine:cost": 12.345}
    found = page(made, tmp_path)
    assert "mine:cost" in found.text
    assert "12.35" in found.text or "12.34" in found.text


def test_times_are_shown_in_utc() -> None:
    assert when("2026-03-14T10:26:53+01:00") == "2026-03-14 09:26 UTC"
    assert when("yesterday") == "yesterday"
    assert re.fullmatch(r"0001-01-01.*", when("0001-01-01T00:00:00+05:00"))


def test_settings_stand_in_where_there_is_no_command(tmp_path: Path) -> None:
    assert (
        settings({"opset": 20, "size": None, "force": False, "data": "<b>", "seed": 0}) == "opset=20, data=<b>, seed=0"
    )
    made = sample.report(1)
    made["variants"][0]["steps"] = [{"stage": "export", "config": {"opset": 20, "data": "<b>"}}]
    assert "opset=20, data=<b>" in page(made, tmp_path).text


def test_what_this_machine_cannot_run_is_not_shown_as_a_failure(tmp_path: Path) -> None:
    made = sample.report(3)
    made["variants"][0] = {"name": "gpu", "target": "ort-cuda", "status": "skipped", "reason": "no GPU"}
    made["variants"][2] = {"name": "odd", "target": "ort-cpu", "status": "failed", "reason": "NaN"}
    made["pick"] = None
    made["pareto"] = [name for name in made["pareto"] if name == made["variants"][1]["name"]]
    page = to_html(validate(made), tmp_path)
    skipped = page.partition('<section class="skipped"')[2].partition("</section>")[0]
    failed = page.partition('<section class="failed"')[2].partition("</section>")[0]
    assert "no GPU" in skipped
    assert "NaN" not in skipped
    assert "NaN" in failed
    assert "no GPU" not in failed
