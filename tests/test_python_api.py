"""docs/python.md: its code type-checks strictly as a user's script, and runs cell by cell in a real notebook kernel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
CELLS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL)
REST = """
out: deploykit.QuantizeResult | deploykit.QatResult = deploykit.quantize(net, "x.onnx", size=32, target="ort-cpu")
gate: deploykit.GateResult = deploykit.gate("run", "policy.yaml")
"""
WRONG = """
deploykit.quantize("net.onnx", imags=64)
deploykit.verify("a.onnx", "b.onnx", images="many")
deploykit.benchmark(3, data="digits")
"""


def test_the_page_has_code() -> None:
    assert len(CELLS) >= 5


def test_it_type_checks_strictly_and_mistakes_are_found(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    code = "\n".join(cell for cell in CELLS if cell.strip() != "result")
    good.write_text(code + REST, encoding="utf-8")
    bad.write_text("import deploykit\n" + WRONG, encoding="utf-8")
    done = mypy(good, bad)
    assert "good.py" not in done, done
    assert len(re.findall(r"bad\.py:\d+: error", done)) == 3, done


def mypy(*files: Path) -> str:
    """What mypy --strict says of a user's files; what they import is read for its types only."""
    options = [
        "--strict",
        "--follow-imports=silent",
        "--config-file=",
        "--cache-dir",
        str(ROOT / ".mypy_cache" / "user"),
    ]
    command = [sys.executable, "-m", "mypy", *options, *map(str, files)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    folder = str(tmp_path_factory.mktemp("notebook"))
    nbclient.NotebookClient(made, timeout=300, resources={"metadata": {"path": folder}}).execute(
        env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    return made


def test_every_cell_runs_and_prints(notebook: Any) -> None:
    printed = ["".join(one.get("text", "") for one in cell.outputs) for cell in notebook.cells]
    assert "net.onnx" in printed[0]
    assert "True" in printed[1]
    assert "net.int8" in printed[2]
    assert re.search(r"^2 .*opset", printed[4])


def test_progress_is_drawn_and_taken_away(notebook: Any) -> None:
    drawn = [one.data for cell in notebook.cells for one in cell.outputs if one.output_type == "display_data"]
    assert any("<div" in data.get("text/html", "") for data in drawn)
    assert not any("<progress" in data.get("text/html", "") for data in drawn)


def test_a_result_is_shown_as_a_page(notebook: Any) -> None:
    (shown,) = [one for one in notebook.cells[3].outputs if one.output_type == "execute_result"]
    assert "&lt;html" in shown.data["text/html"]
    assert "srcdoc=" in shown.data["text/html"]
