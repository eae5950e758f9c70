"""Processes that train together leave their group before Python goes down."""

import subprocess
import sys
from pathlib import Path

TOGETHER = """
import atexit, os, pathlib, torch
from deploykit.config.train import LoopConfig
from deploykit.training.distributed import leave, open_fabric, summed

said = pathlib.Path(os.environ["RANK"])
atexit.register(lambda: said.write_text(f"{sums}, open at the end: {torch.distributed.is_initialized()}"))
sums = []
for _ in range(2):
    fabric = open_fabric(LoopConfig(device="cpu"))
    sums.append(int(summed(torch.ones(1), fabric)))
    leave(fabric)
"""


def test_the_group_serves_until_the_program_ends_and_is_ended_before(tmp_path: Path) -> None:
    words = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python")
    done = subprocess.run(
        [sys.executable, *words, sys.executable, "-c", TOGETHER],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["[2, 2], open at the end: False"] * 2
