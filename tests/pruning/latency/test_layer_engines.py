"""What an engine tells of its layers is read rightly, and a target that cannot run here is refused first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploykit.base.errors import AnswerNo, Unavailable
from deploykit.engines.tensorrt.hardware import gpu_or_none
from deploykit.pruning.latency.layer_times import need_target, time_of


def row(time_us: float, *nodes: str) -> dict[str, Any]:
    return {"time_us": time_us, "nodes": list(nodes)}


def test_changes_of_layout_are_left_out() -> None:
    assert time_of([row(3), row(5, "conv", "relu"), row(2, "relu"), row(7, "other")], ("conv", "relu")) == 7


def test_an_engine_with_names_of_its_own_is_taken_whole() -> None:
    assert time_of([row(3), row(5, "fused")], ("conv",)) == 8


def test_an_engine_that_tells_nothing_is_an_error() -> None:
    with pytest.raises(AnswerNo, match="tells no times"):
        time_of([], ("conv",))


@pytest.mark.skipif(gpu_or_none() is not None, reason="there is a GPU")
@pytest.mark.parametrize("target", ["tensorrt", "tensorrt-rtx", "ort-cuda"])
def test_a_target_without_its_gpu_is_refused(target: str) -> None:
    with pytest.raises(Unavailable, match=r"driver|not installed|CUDA"):
        need_target(target)


def test_a_plan_is_built_of_a_single_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the run, which needs the GPU: TensorRT-RTX builds the plan that would be timed."""
    from deploykit.commands.prune import built_plan
    from deploykit.engines.tensorrt.plan_file import read_header
    from deploykit.pruning.latency.layer_times import conv_graph, open_on
    from deploykit.pruning.latency.table import LayerShape

    if gpu_or_none() is not None:
        pytest.skip("there is a GPU: test_layer_engines_gpu.py runs the plan")
    path = tmp_path / "layer.onnx"
    shape = LayerShape(16, 24, (3, 3), (1, 1), (1, 1), (1, 1), 1, (14, 14))
    path.write_bytes(conv_graph([shape]).SerializeToString())
    with pytest.raises(Unavailable, match="driver"):
        open_on(path, "tensorrt-rtx", 1, built_plan)
    assert read_header(tmp_path / "layer.engine").target == "tensorrt-rtx"
