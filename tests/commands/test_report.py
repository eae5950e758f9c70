from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploykit.base.errors import BadInput
from deploykit.commands.report import report
from deploykit.reporting import validate, write_report
from tests.reporting import sample


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    made = sample.report(4)
    sample.write_samples(made, folder)
    write_report(validate(made), folder)
    return folder


def test_pages_come_back_the_same(run_folder: Path) -> None:
    before = {end: (run_folder / f"report.{end}").read_bytes() for end in ("json", "html", "md")}
    for end in ("html", "md"):
        (run_folder / f"report.{end}").unlink()
    result = report(run_folder)
    assert [path.name for path in result.files] == ["report.html", "report.md"]
    assert before == {end: (run_folder / f"report.{end}").read_bytes() for end in ("json", "html", "md")}
    assert result.pick == "int8"
    json.dumps(result.to_dict())
    assert result.summary().startswith("int8 is 2.41× the speed of fp32")


def test_another_folder_still_finds_the_samples(run_folder: Path, tmp_path: Path) -> None:
    report(run_folder / "report.json", tmp_path / "pages")
    assert (tmp_path / "pages" / "report.html").read_bytes() == (run_folder / "report.html").read_bytes()
    assert not (tmp_path / "pages" / "report.json").exists()


def test_an_edited_page_is_kept(run_folder: Path) -> None:
    page = run_folder / "report.md"
    page.write_text("my words\n" + page.read_text())
    with pytest.raises(BadInput, match="or was changed since"):
        report(run_folder)
    assert page.read_text().startswith("my words")
    report(run_folder, force=True)
    assert not page.read_text().startswith("my words")


def test_several_reports_are_compared(run_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "later"
    other.mkdir()
    made = sample.report(4) | {"created": "2026-04-01T00:00:00+00:00"}
    write_report(validate(made), other)
    result = report([run_folder, other / "report.json"], tmp_path / "both")
    assert [path.name for path in result.files] == ["comparison.html", "comparison.md", "comparison.json"]
    assert result.summary().startswith("2 reports: no variant's speed changed beyond its interval")
    found = json.loads((tmp_path / "both/comparison.json").read_text())
    assert [run["label"] for run in found["runs"]] == ["run", "later"]
    assert str(tmp_path) not in (tmp_path / "both/comparison.html").read_text()  # no path of this machine
    report([other, run_folder], tmp_path / "both")  # ours are replaced, the order of time stays
    assert json.loads((tmp_path / "both/comparison.json").read_text())["runs"] == found["runs"]
    (tmp_path / "both/comparison.md").write_text("mine")
    with pytest.raises(BadInput, match="was not made by deploykit"):
        report([run_folder, other], tmp_path / "both")


def test_several_reports_need_a_place(run_folder: Path) -> None:
    with pytest.raises(BadInput, match="Name a folder with -o"):
        report([run_folder, run_folder])


@pytest.mark.parametrize(
    ("output", "message"), [("file", "it is a file"), ("no/where", "the folder .*no does not exist")]
)
def test_places_that_cannot_be_written_are_named(run_folder: Path, tmp_path: Path, output: str, message: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match=message):
        report(run_folder, tmp_path / output)
