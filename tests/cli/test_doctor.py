"""``deploykit doctor``."""

from __future__ import annotations

import json

import pytest

from deploykit.cli.main import app
from deploykit.commands import doctor_probes as room


@pytest.fixture(autouse=True)
def _few_probes(monkeypatch):
    monkeypatch.setattr(room, "PROBES", {"ort-cpu": room.PROBES["ort-cpu"], "tensorrt": room.PROBES["tensorrt"]})


def _run(*words):
    with pytest.raises(SystemExit) as ended:
        app(["doctor", *words])
    return ended.value.code


def test_it_ends_with_0_whatever_is_missing(capsys):
    assert _run("--quiet") == 0
    assert "yes  ort-cpu" in capsys.readouterr().out


def test_json_is_one_object(capsys):
    assert _run("--quiet", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "deploykit.doctor/1"
    assert {check["name"] for check in found["checks"]} >= {"python", "ort-cpu", "tensorrt"}


def test_a_missing_requirement_ends_with_4(capsys, monkeypatch):
    missing = room.Check("gpu", False, "none here", "Install the driver.")
    monkeypatch.setitem(room.LOCAL, "gpu", lambda: missing)
    assert _run("--quiet", "--require", "gpu") == 4
    told = capsys.readouterr()
    assert "required and missing: gpu" in told.out
    assert told.err == "deploykit doctor: gpu does not work here: none here. Install the driver.\n"
    assert _run("--quiet", "--json", "--require", "gpu") == 4
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["exit_code"]) == ("unavailable", 4)
    assert found["error"] == "gpu does not work here: none here. Install the driver."
    assert _run("--quiet", "--require", "python") == 0
    assert _run("--quiet", "--require", "nonsense") == 2
