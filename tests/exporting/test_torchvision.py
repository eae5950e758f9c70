"""Every classification model of torchvision exports and agrees with PyTorch; the table is written on the way."""

from __future__ import annotations

import pytest

from tests.exporting.torchvision_table import in_process_of_its_own, markdown, names, write_row


@pytest.mark.slow
@pytest.mark.timeout(6 * 3600)
def test_all_export_and_agree() -> None:
    failed = []
    for name in names():
        row = in_process_of_its_own(name)
        write_row(row)
        if not row["ok"]:
            failed.append(f"{name}: {row['reason']}")
        elif name == "resnet50":
            assert row["peak_memory_bytes"] < 4e9
            assert row["batch_norms_left"] == 0
    assert not failed


def test_the_table_names_what_fails() -> None:
    good = {
        "model": "resnet18", "ok": True, "params": 11_700_000, "opset": 20, "exporter": "dynamo", "nodes": 49,
        "batch_norms_left": 0, "snr_db": 120.04, "external_data": False, "bytes": 46_800_000,
        "peak_memory_bytes": 1_500_000_000, "seconds": 9.4,
    }  # fmt: skip
    bad = {"model": "x", "ok": False, "reason": "cannot export: a | b"}
    here = {"cpu": "CPU", "cores": 2, "libraries": {"torch": "2"}}
    text = markdown([{**good, "machine": here}, {**bad, "machine": {**here, "cores": 8}}])
    assert "* B: CPU, 8 cores; torch 2" in text
    assert "1 of 2 export and agree" in text
    assert "| resnet18 | 11.7 | 20 | dynamo | 49 | 0 | 120.0 | 46.8 | 1.50 | 9 | A |" in text
    assert "fails: cannot export: a   b" in text
