from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest

from tests.exporting.through_export import exported, nearness_db

NETS = "tests.exporting.reused_nets"
FACTORIES = [
    "shared_head",
    "recurrent",
    "norm_for_each_use",
    "norm_over_several",
    "with_and_without",
    "tied",
    "linear_twice",
]


@pytest.mark.parametrize(
    ("factory", "exporter"), [*((one, "dynamo") for one in FACTORIES), *((one, "torchscript") for one in FACTORIES[:3])]
)
def test_a_layer_may_be_used_several_times(factory: str, exporter: str, tmp_path: Path) -> None:
    result = exported(f"{NETS}:{factory}", tmp_path, exporter=exporter)
    assert nearness_db(f"{NETS}:{factory}", result) >= 120
    names = [node.name for node in onnx.load(result.output).graph.node]
    assert len(set(names)) == len(names)


def test_uses_with_the_same_norm_share_one_weight(tmp_path: Path) -> None:
    graph = onnx.load(exported(f"{NETS}:recurrent", tmp_path).output).graph
    assert "BatchNormalization" not in Counter(node.op_type for node in graph.node)
    assert len({node.input[1] for node in graph.node if node.name.startswith("tower.0/Conv")}) == 1
    assert [one.name for one in graph.initializer if one.name.startswith("tower")] == ["tower.0.weight", "tower.0.bias"]
