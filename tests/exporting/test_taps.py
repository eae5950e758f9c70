from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploykit.base.errors import BadInput
from deploykit.exporting.exporters import EXPORTERS
from deploykit.exporting.taps import GraphTaps, ModuleTaps, match_graphs, match_module
from tests.exporting.nets import Plain, seeded
from tests.exporting.test_embed import export_to

X = np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_module_and_its_graph_agree_layer_by_layer(exporter: str, tmp_path: Path) -> None:
    module = seeded(Plain)
    export_to(tmp_path / "plain.onnx", exporter, module)
    hooks, graph = ModuleTaps(module, X), GraphTaps(tmp_path / "plain.onnx", X)
    pairs = match_module(hooks.taps, graph.taps)
    named = {reference.tensor: candidate.node for reference, candidate in pairs}
    assert named == {
        "bn1": "conv1/Conv",  # folded: the convolution's node makes what the norm answers
        "relu": "relu/Relu",
        "bn2": "conv2/Conv",
        "relu#1": "relu/Relu_1",
        "block.0": "block.0/Conv",
        "block.1": "block.1/Relu",
        "fc": "fc/Gemm",
    }
    mine, theirs = hooks([r.tensor for r, _ in pairs]), graph([c.tensor for _, c in pairs])
    for reference, candidate in pairs:
        np.testing.assert_allclose(mine[reference.tensor], theirs[candidate.tensor], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(hooks(["@output"])["@output"], module(hooks_input()).detach().numpy())


def hooks_input():
    import torch

    return torch.tensor(X)


def test_graphs_of_both_exporters_are_matched_by_name(tmp_path: Path) -> None:
    graphs = []
    for exporter in EXPORTERS:
        export_to(tmp_path / exporter / "plain.onnx", exporter, seeded(Plain))
        graphs.append(GraphTaps(tmp_path / exporter / "plain.onnx", X))
    matched = {candidate.node for _, candidate in match_graphs(graphs[0].taps, graphs[1].taps)}
    assert {"conv1/Conv", "conv2/Conv", "relu/Relu_1", "fc/Gemm"} <= matched


def test_weights_beside_the_file_are_found(tmp_path: Path) -> None:
    export_to(tmp_path / "plain.onnx", "torchscript", seeded(Plain), limit=100)
    assert GraphTaps(tmp_path / "plain.onnx", X)(["relu/Relu"])["relu/Relu"].shape == (2, 8, 16, 16)


def test_an_input_the_graph_refuses_is_one_line(tmp_path: Path) -> None:
    export_to(tmp_path / "plain.onnx", "torchscript", seeded(Plain))
    with pytest.raises(BadInput, match=r"cannot read tensors of .*plain\.onnx"):
        GraphTaps(tmp_path / "plain.onnx", X[:, :2])(["relu/Relu"])
