"""The README's commands run, its table is the measured one, and its files exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TABLE = ROOT / "recipes" / "results" / "export_torchvision.md"
TINY = [
    "train.epochs=1",
    "train.threads=1",
    "model.kwargs={depth: 8, widths: [4, 8, 16], stem_stride: 2}",
    "variants={eager: {target: torch-eager}, fp32: {target: ort-cpu}}",
    "benchmark={limit: 60, max_time_s: 0.5, min_blocks: 2, block_ms: 5}",
]


def blocks() -> list[str]:
    return re.findall(r"<!-- test -->\n```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_tour_runs(tmp_path: Path) -> None:
    """All marked blocks, one after the other in one shell; the quickstart with tiny settings."""
    settings = " ".join(f"--set '{one}'" for one in TINY)
    script = "\n".join(blocks())
    assert script.count("deploykit ") >= 12
    script = script.replace("deploykit run quickstart", f"deploykit run quickstart {settings}")
    script = f'set -eu\ndeploykit() {{ "{sys.executable}" -m deploykit.cli.main "$@"; }}\n{script}'
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing to do: every result of quickstart is there already" in done.stderr
    for name in ("runs/quickstart/report.html", "model.onnx", "measured/report.json", "report.html", "mine.yaml"):
        assert (tmp_path / name).is_file(), name


def test_every_command_is_in_the_readme() -> None:
    from deploykit.cli.main import COMMANDS

    text = README.read_text(encoding="utf-8")
    missing = [name for name in COMMANDS if f"deploykit {name}" not in text]
    assert not missing


def test_the_commands_of_make_stand_beside_it() -> None:
    text, makefile = README.read_text(encoding="utf-8"), (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "deploykit run recipes/quickstart.yaml" in text
    assert "deploykit run recipes/quickstart.yaml" in makefile
    assert "-m 'not slow and not gpu and not bench'" in text
    assert "-m 'not slow and not gpu and not bench'" in makefile
    for target in re.findall(r"make ([a-z-]+)", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_linked_files_exist() -> None:
    for place in re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8")):
        assert (ROOT / place).exists(), place


def test_the_export_table_is_the_measured_one(request: pytest.FixtureRequest) -> None:
    text = README.read_text(encoding="utf-8")
    measured = "\n".join(TABLE.read_text(encoding="utf-8").splitlines()[2:]).strip()
    start, end = "<!-- export table -->\n", "<!-- end of export table -->"
    before, _, rest = text.partition(start)
    shown, _, after = rest.partition(end)
    if request.config.getoption("--update-golden"):
        README.write_text(f"{before}{start}{measured}\n{end}{after}", encoding="utf-8")
        shown = measured
    advice = "pytest tests/test_readme.py --update-golden takes the new table over"
    assert models(shown) <= models(measured), advice
    if len(models(measured)) >= all_models():  # a table that is still being measured may be ahead of the README
        assert shown.strip() == measured, advice


def models(table: str) -> set[str]:
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    assert rows, "there is no table"
    return set(rows) - {"Model"}


def all_models() -> int:
    import torchvision

    return len(torchvision.models.list_models(module=torchvision.models))
