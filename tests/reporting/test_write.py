from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deploykit.base.errors import BadInput
from deploykit.reporting import read_report, validate, write_report
from deploykit.reporting.write import is_ours, refuse_foreign_folder, refuse_foreign_pages
from tests.reporting import sample


def test_three_files_are_written_and_read_back(tmp_path: Path) -> None:
    made = validate(sample.report())
    assert write_report(made, tmp_path) == [tmp_path / f"report.{end}" for end in ("json", "html", "md")]
    assert read_report(tmp_path) == made


def test_nan_and_infinity_never_reach_the_json(tmp_path: Path) -> None:
    made = validate(sample.report())
    parity = made.variants[1].parity
    parity.snr_db, parity.cosine, parity.max_abs = float("inf"), float("nan"), np.float32(0.5)
    write_report(made, tmp_path)

    def refuse(name: str) -> float:
        raise AssertionError(name)

    parity = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)["variants"][1]["parity"]
    assert (parity["snr_db"], parity["cosine"], parity["max_abs"]) == (None, None, 0.5)


def test_a_report_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    made = validate(sample.report())
    made.variants[0].accuracy.top1 = 98.9
    with pytest.raises(BadInput, match=r"variants.0.accuracy.top1"):
        write_report(made, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"the folder .*nowhere does not exist"):
        write_report(validate(sample.report()), tmp_path / "nowhere")


def test_equal_reports_make_equal_files(tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        contents.append([path.read_bytes() for path in write_report(validate(sample.report()), tmp_path)])
    assert contents[0] == contents[1]


def test_pages_know_their_maker(tmp_path: Path) -> None:
    write_report(validate(sample.report()), tmp_path)
    refuse_foreign_pages(tmp_path)
    page = tmp_path / "report.md"
    assert is_ours(page)
    page.write_text(page.read_text().replace("int8", "int9", 1))
    assert not is_ours(page)
    with pytest.raises(BadInput, match=r"report.md was not made by deploykit, or was changed since"):
        refuse_foreign_pages(tmp_path)


def test_a_folder_of_other_files_is_no_place_for_a_report(tmp_path):
    refuse_foreign_folder(tmp_path)
    for name in ("logits", "samples", ".hidden"):  # what an interrupted report leaves
        (tmp_path / name).mkdir()
    refuse_foreign_folder(tmp_path)
    (tmp_path / "one.png").touch()
    with pytest.raises(BadInput, match=r"holds files that deploykit did not make; got one\.png.*--force"):
        refuse_foreign_folder(tmp_path)


@pytest.mark.parametrize("name", ["report.json", "lock", "one.png.manifest.json"])
def test_a_folder_that_deploykit_worked_in_takes_a_report(name, tmp_path):
    (tmp_path / "one.png").touch()
    (tmp_path / name).touch()
    refuse_foreign_folder(tmp_path)
