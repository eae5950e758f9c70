from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deploykit.base.errors import AnswerNo
from deploykit.exporting.decisions import decisions, probes
from tests.exporting.test_steadiness import line_of
from tests.exporting.through_export import built, exported, nearness_db
from tests.listening import Listening

NETS = "tests.exporting.unsteady_nets"
INPUTS = probes(torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(3)))
BY_VALUES = {"branching": "if y.mean() > 0.2", "looping": "int(y.amax())", "scaled_by_a_number": "y.detach().numpy()"}


@pytest.mark.parametrize("factory", BY_VALUES)
def test_a_decision_by_values_is_found_where_it_is_made(factory: str) -> None:
    found = decisions(built(f"{NETS}:{factory}"), INPUTS)
    (line,) = found
    assert line.endswith(line_of(BY_VALUES[factory]))
    assert len(found[line]) > 1


@pytest.mark.parametrize("factory", ["guarded", "by_a_weight"])
def test_a_decision_that_is_always_the_same_is_known_as_such(factory: str) -> None:
    found = decisions(built(f"{NETS}:{factory}"), INPUTS)
    assert [len(values) for values in found.values()] == [1]


@pytest.mark.parametrize("factory", ["by_size", "steady"])
def test_what_hangs_on_sizes_alone_is_none(factory: str) -> None:
    assert decisions(built(f"{NETS}:{factory}"), INPUTS) == {}


@pytest.mark.parametrize("factory", ["branching", "looping"])
@pytest.mark.parametrize("exporter", ["auto", "torchscript"])
def test_export_refuses_a_decision_that_varies_and_names_its_line(factory: str, exporter: str, tmp_path: Path) -> None:
    with pytest.raises(AnswerNo) as caught:
        exported(f"{NETS}:{factory}", tmp_path, exporter=exporter)
    assert line_of(BY_VALUES[factory]) in caught.value.line()
    assert not (tmp_path / "net.onnx").exists()


def test_a_frozen_decision_that_never_varies_is_warned_of_and_kept_in_the_facts(
    tmp_path: Path, listening: Listening
) -> None:
    result = exported(f"{NETS}:guarded", tmp_path, progress=listening)
    assert nearness_db(f"{NETS}:guarded", result) >= 110
    (line,) = result.facts["frozen"]
    assert line_of("torch.isnan(y).any()") in line
    assert line in listening.warned


def test_what_a_trace_keeps_of_sizes_is_shown_with_its_line(tmp_path: Path, listening: Listening) -> None:
    result = exported(f"{NETS}:by_size", tmp_path, exporter="torchscript", progress=listening)
    assert result.facts["frozen"] == []
    assert [line for line in listening.warned if line_of("y.shape[-1] > 8") in line and "boolean" in line]


def test_no_graph_is_dumped_on_stdout(tmp_path: Path) -> None:
    """TorchScript's exporter prints from C++, past Python's streams: looked at from outside."""
    code = (
        "import torch; from pathlib import Path; from deploykit.exporting.exporters import export_with\n"
        "class N(torch.nn.Module):\n"
        "    def forward(self, x): return torch.linalg.qr(x.flatten(1))[0]\n"
        "export_with('torchscript', N().eval(), torch.rand(2, 3, 4, 4), ['output'], 18, dynamic=False, "
        f"folder=Path({str(tmp_path)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "linalg_qr" in done.stderr
    assert "graph(" not in done.stderr.partition("AnswerNo:")[2]
