"""The same recipe twice: the same files, and the same report but for its times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploykit.pipeline import run
from deploykit.reporting import read_report

RECIPE = """\
version: 1
name: small
data: digits
model: {arch: deploykit:resnet, kwargs: {depth: 8, widths: [8, 16, 32], stem_stride: 2}}
train: {epochs: 1, threads: 1}
variants:
  eager: {target: torch-eager}
  fp32: {target: ort-cpu}
  int8: {from: fp32, target: ort-cpu, steps: [{quantize: {images: 32, select_images: 32, effort: fast}}]}
benchmark: {max_time_s: 0.5, min_blocks: 2, block_ms: 2, end_to_end: false}
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of one recipe from nothing, the second beside a busy process."""
    home = tmp_path_factory.mktemp("twice")
    (home / "small.yaml").write_text(RECIPE)
    run(home / "small.yaml", home / "first")
    busy = subprocess.Popen([sys.executable, "-c", "while True: sum(range(100_000))"])
    try:
        run(home / "small.yaml", home / "second")
    finally:
        busy.kill()
        busy.wait()
    return [home / "first", home / "second"]


def test_the_files_are_the_same_bytes(folders: list[Path]) -> None:
    names = sorted(path.name for path in (folders[0] / "artifacts").glob("*") if path.suffix in (".pt", ".onnx"))
    assert names == ["fp32.onnx", "int8.onnx", "model.pt"]
    for name in names:
        first, second = ((folder / "artifacts" / name).read_bytes() for folder in folders)
        assert first == second, name


def test_the_reports_say_the_same_of_all_but_times(folders: list[Path]) -> None:
    first, second = (read_report(folder) for folder in folders)
    assert first.repeatable() == second.repeatable()
    said = json.loads(first.repeatable())
    assert {"config", "sha256", "command"} <= set(said["variants"][2]["steps"][2])
    for part in ("artifact", "parity", "quality", "status", "accuracy"):
        assert all(one[part] is not None for one in said["variants"] if one["name"] != "eager"), part
    assert [one.p50_ms for one in first.variants[1].measurements] != [
        one.p50_ms for one in second.variants[1].measurements
    ]
    for name in ("fp32.npz", "int8.npz"):
        one, other = ((folder / "logits" / name).read_bytes() for folder in folders)
        assert one == other
