"""``deploykit benchmark``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from deploykit.cli.main import app


def _run(*words):
    with pytest.raises(SystemExit) as ended:
        app(["benchmark", *words])
    return ended.value.code


def test_json_holds_the_report(tiny_model, digits_npz, capfd):
    quick = ["--max-time", "1", "--min-blocks", "5", "--block-ms", "3", "--until", "0.5", "--compute-only"]
    assert _run(f"a={tiny_model}", "--data", str(digits_npz), "--quiet", "--json", *quick) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["schema"] == "deploykit.benchmark/1"
    assert found["status"] == "ok"
    assert found["report"]["variants"][0]["measurements"][0]["n"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["MODEL", "--shape", "input"], "cannot read --shape 'input'"),
        (["a=MODEL", "--corruptions"], "there are no data"),
        (["--data", "digits"], "missing argument ARTIFACT"),
        (["a=MODEL", "--data", "digits", "--batch", "0"], "batch: got 0"),
        (["a=MODEL", "--data", "digits", "--until", "2"], "until: got 2.0"),
        (["a=MODEL", "--data", "digits", "--until", "±200%"], "until: got 2.0"),
        (["a=MODEL", "--data", "digits", "--until", "lots"], "'lots' is no ratio; expected 0.01, 1% or ±1%"),
        (["a=MODEL", "--data", "digits", "--scenario", "clients"], "got 'clients', expected"),
        (["a=MODEL", "--data", "digits", "--sweep", "size"], "got 'size', expected 'batch' or 'threads'"),
        (["a=MODEL", "--data", "digits", "--builds", "0"], "builds: got 0"),
        (["a=MODEL", "--data", "digits", "--against", "no-such"], "--against no-such: no run folder, no bundle"),
        (["a=MODEL", "--data", "digits", "--baseline", "b"], "unknown baseline 'b'"),
        (["a=MODEL@ort-gpu", "--data", "digits"], "unknown target 'ort-gpu'"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(tiny_model, capsys, words, message):
    assert _run("--quiet", *(word.replace("MODEL", str(tiny_model)) for word in words)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_ctrl_c_stops_the_workers_and_leaves_no_report(tiny_model, digits_npz, tmp_path):
    import psutil

    folder = tmp_path / "run"
    command = [sys.executable, "-m", "deploykit.cli.main", "benchmark", f"a={tiny_model}", "--data", str(digits_npz)]
    command += ["-o", str(folder), "--max-time", "300", "--until", "0.000001"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    assert any(line.startswith("warm up") for line in process.stderr)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 3
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    assert not (folder / "report.json").exists()
    assert not list(folder.glob(".benchmark-*"))
