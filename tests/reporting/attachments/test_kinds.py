from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploykit.base.atomic import write_json
from deploykit.base.errors import BadInput
from deploykit.reporting import validate, write_report
from deploykit.reporting.attachments import Attachment, bars, sensitivity, series, table
from deploykit.reporting.attachments.cell_table import cell
from deploykit.reporting.attachments.files import MAX_BYTES, read_attachment
from deploykit.reporting.attachments.kinds import checked
from tests.reporting import sample
from tests.reporting.test_html import Page
from tests.reporting.test_sensitivity_page import analysis, layer

HOSTILE = "<script>alert(1)</script>"


def written(folder: Path, *attachments: Attachment, count: int = 2) -> dict[str, Any]:
    report = sample.report()
    report["variants"] = report["variants"][:4]
    report["pareto"] = [name for name in report["pareto"] if name in {one["name"] for one in report["variants"]}]
    (folder / "attachments").mkdir(parents=True)
    named = []
    for number, one in enumerate(attachments):
        file = f"attachments/{number}.json"
        write_json(folder / file, one.plain())
        named.append({"title": one.title, "kind": one.kind, "file": file})
    for variant in report["variants"][:count]:
        variant["attachments"] = named
    write_report(validate(report), folder)
    return report


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def all_kinds(name: str = "conv1") -> list[Attachment]:
    return [
        series(f"Curves {name}", "train", "epoch", {"label": "loss", "log": True}, {name: [(0, 2.0), (1, 0.5)]}, name),
        bars(f"Widths {name}", "prune", "channels", ["before", "after"], {name: [64, 32], "conv2": [128, None]}),
        table(f"Layers {name}", "prune", [{"name": name, "align": "left"}, {"name": "t", "unit": "ms"}], [[name, 0.5]]),
        sensitivity(f"Sensitivity {name}", "analyze", analysis(layer(name, 0.8), layer("b", 0.1))),
    ]


def test_every_kind_is_shown_once_with_its_variants(tmp_path: Path) -> None:
    written(tmp_path, *all_kinds())
    page = page_of(tmp_path)
    for piece in (
        "Curves conv1",
        "train · eager, fp32",
        "64 → 32",
        "128 → –",
        "0.500",
        "conv1 costs most",
        "loss, log",
    ):
        assert piece in page.text
    assert page.text.count("Curves conv1 train") == 1
    assert page.tags.count("details") == 4 + 4
    classes = [value for _, key, value in page.attributes if key == "class"]
    assert classes.count("curve") == 2  # wide and narrow
    assert classes.count("bar c0") == 2 * 2
    assert classes.count("bar c1") == 2
    markdown = (tmp_path / "report.md").read_text()
    assert "- [Widths conv1](<./attachments/1.json>): eager, fp32" in markdown


def test_hostile_names_are_shown_as_text(tmp_path: Path) -> None:
    written(tmp_path, *all_kinds(HOSTILE))
    page = page_of(tmp_path)
    assert "script" not in page.tags
    assert f"Layers {HOSTILE}" in page.text
    assert "<script" not in (tmp_path / "report.md").read_text()


def test_a_long_table_is_cut_and_says_so(tmp_path: Path) -> None:
    written(tmp_path, table("Long", "prune", ["n"], [[i] for i in range(450)]))
    page = page_of(tmp_path)
    assert "50 more rows are in the file" in page.text
    assert " 399 " in page.text
    assert " 401 " not in page.text


@pytest.mark.parametrize("payload", ["nonsense", "[]", '{"schema": "deploykit.attachment/1"}', '{"schema": "other/1"}'])
def test_a_file_that_is_no_attachment_is_only_linked(tmp_path: Path, payload: str) -> None:
    (tmp_path / "attachments").mkdir()
    (tmp_path / "attachments/0.json").write_text(payload)
    report = sample.report()
    report["variants"][0]["attachments"] = [{"title": "Log", "kind": "log", "file": "attachments/0.json"}]
    write_report(validate(report), tmp_path)
    page = page_of(tmp_path)
    assert "How it came about" not in page.text
    assert ("a", "href", "./attachments/0.json") in page.attributes


def test_a_file_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    write_json(tmp_path / "secret.json", all_kinds()[0].plain())
    (inside / "link.json").symlink_to(tmp_path / "secret.json")
    assert read_attachment(inside / "link.json", inside) is None
    assert read_attachment(inside / "../secret.json", inside) is None
    assert read_attachment(tmp_path / "secret.json", tmp_path) is not None


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    place = tmp_path / "a.json"
    text = json.dumps(all_kinds()[0].plain())
    place.write_text(text + " " * (MAX_BYTES - len(text)))
    assert read_attachment(place, tmp_path) is not None
    place.write_text(text + " " * (MAX_BYTES - len(text) + 1))
    assert read_attachment(place, tmp_path) is None


def test_deep_nesting_is_no_attachment(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * 100_000 + "]" * 100_000)
    assert read_attachment(tmp_path / "a.json", tmp_path) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "pie"}, "kind: .*table"),
        ({"payload": {"columns": [{"name": "a"}], "rows": [[1, 2]]}}, "row 0 has 2 cells, the table 1 columns"),
        ({"payload": {"columns": [{"name": "a"}], "rows": [[{}]]}}, "rows.0.0"),
        ({"payload": {"columns": [{"name": "a", "width": 3}], "rows": []}}, "columns.0.width: Extra inputs"),
        ({"title": ""}, "title: String should have at least 1"),
        ({"title": "x" * 201}, "title: String should have at most 200"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    fields = table("T", "prune", ["a"], [[1]]).plain() | change
    with pytest.raises(BadInput, match=f"^f is no attachment: .*{message}"):
        checked(fields, "f")


def test_values_that_cannot_be_drawn_are_refused_or_left_out() -> None:
    one = series("C", "train", "epoch", "loss", {"a": [(0, 1.0), (1, float("nan")), (2, float("inf"))]})
    assert one.payload["lines"][0]["points"] == [[0, 1]]
    with pytest.raises(BadInput, match="the logarithmic axis 'loss' has a value that is not positive"):
        series("C", "train", "epoch", {"label": "loss", "log": True}, {"a": [(0, 0.0)]})
    with pytest.raises(BadInput, match="'x' has 1 values for 2 names"):
        bars("B", "prune", "channels", ["before", "after"], {"x": [1]})
    with pytest.raises(BadInput, match="greater than or equal to 0"):
        bars("B", "prune", "channels", ["before"], {"x": [-1]})
    with pytest.raises(BadInput, match="no score for 'weights'"):
        sensitivity("S", "analyze", analysis(layer("a", 0.1)) | {"modes": ["alone", "weights"]})
    with pytest.raises(BadInput, match="less than or equal to 1000000000000000"):
        series("C", "train", "epoch", "loss", {"a": [(0, 1e300)]})


@pytest.mark.parametrize(
    "points",
    [[], [(0, 1.0)], [(0, 0.0), (1, 0.0)], [(5, -3.0)] * 3, [(0, 1e-300), (1, 1e15)], [(0, -1e15), (1e15, 1e15)]],
)
def test_odd_curves_are_drawn(tmp_path: Path, points: list[tuple[float, float]]) -> None:
    written(
        tmp_path,
        series("Odd", "train", "epoch", "loss", {"a": points, "b": [(0, 0.0)]}),
        bars("E", "p", "c", ["n"], {}),
    )
    text = (tmp_path / "report.html").read_text()
    assert "Odd" in page_of(tmp_path).text
    assert "nan" not in text.partition('id="details"')[2].lower().replace("tenant", "")


def test_cells_are_shown_as_people_read_them() -> None:
    assert [cell(one) for one in (None, True, 12345, 0.123456, "a")] == ["–", "yes", "12,345", "0.123", "a"]
