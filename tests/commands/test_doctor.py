"""The doctor."""

from __future__ import annotations

import subprocess
import sys

import pytest

from deploykit.base.errors import BadInput
from deploykit.commands import doctor_probes as room
from deploykit.commands.doctor import DoctorResult, doctor
from deploykit.commands.doctor_probes import PROBES, Check, names, probe, run_probe


def test_it_looks_at_everything_without_importing_torch():
    code = """
import sys
from deploykit.commands.doctor import doctor
from deploykit.commands.doctor_probes import names
result = doctor()
assert [check.name for check in result.checks] == names()
assert all(check.ok or check.fix for check in result.checks), result
assert "torch" not in sys.modules and "onnxruntime" not in sys.modules
print(result.summary())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("python", "ort-cpu", "onnxruntime-packages", "tensorrt-rtx", "torch-compile"):
        assert f"  {name} " in done.stdout


def test_a_failing_import_is_an_answer_with_the_mend(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    answer = run_probe("timm")
    assert not answer["ok"]
    assert "ModuleNotFoundError" in answer["detail"] or "ImportError" in answer["detail"]
    assert answer["fix"] == "pip install 'deploykit[timm]'."


def test_a_probe_that_crashes_or_hangs_is_an_answer(monkeypatch, tmp_path):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho broken library >&2\nkill -SEGV $$\n")
    fake.chmod(0o755)
    monkeypatch.setattr(room.sys, "executable", str(fake))
    check = probe("torch")
    assert not check.ok
    assert check.detail == "the probe ended with code -11: broken library"
    fake.write_text("#!/bin/sh\nexec sleep 30\n")
    assert probe("torch", limit_s=0.5).detail == "it did not answer within 0.5 s"


def test_two_onnxruntimes_in_one_folder_are_found(monkeypatch, tmp_path):
    for name, version in (("onnxruntime", "1.31.0"), ("onnxruntime-gpu", "1.31.1")):
        meta = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        meta.mkdir()
        (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    check = room._onnxruntime_packages()
    assert not check.ok
    assert check.detail == "onnxruntime 1.31.0 and onnxruntime-gpu 1.31.1 share one folder"
    assert check.fix.startswith("pip uninstall -y onnxruntime onnxruntime-gpu")
    monkeypatch.setattr("sys.path", [])
    assert room._onnxruntime_packages().detail == "none is installed"


def test_required_things_that_are_missing_are_named():
    checks = (Check("gpu", False, "none", "Buy one."), Check("timm", True, "timm 1"))
    result = DoctorResult(checks, ("gpu", "timm"))
    assert result.lacking == ["gpu"]
    assert "required and missing: gpu" in result.summary()
    assert "→ Buy one." in result.summary()


def test_an_unknown_requirement_is_refused():
    with pytest.raises(BadInput, match=r"unknown check 'tensort'.*Did you mean 'tensorrt'"):
        doctor(require=("tensort",))
    assert len(set(names())) == len(names())
    assert set(PROBES) < set(names())
