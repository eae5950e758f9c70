"""Export, clean, write and check, with both exporters."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.exporting.clean import clean
from deploykit.exporting.embed import embed_preprocessing, write_metadata
from deploykit.exporting.exporters import EXPORTERS, export_with, reason_of
from deploykit.exporting.names import module_of
from deploykit.exporting.write_onnx import check, count_nodes, write
from tests.exporting.nets import Plain, Spectral, TwoOutputs, seeded

PREPROCESSING = Preprocessing((16, 16), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


def export_to(
    path: Path,
    exporter: str,
    module: nn.Module,
    *,
    names: tuple[str, ...] = ("output",),
    embed: bool = False,
    limit: int | None = None,
    size: int = 16,
) -> list[Path]:
    path.parent.mkdir(exist_ok=True)
    graph, _ = export_with(
        exporter, module, torch.zeros(2, 3, size, size), list(names), 18, dynamic=True, folder=path.parent
    )
    clean(graph, frozenset(name for name, _ in module.named_modules()))
    write_metadata(
        graph.metadata_props,
        preprocessing=PREPROCESSING,
        classes=("a", "b"),
        task="classify",
        precision="fp32",
        lineage=[],
    )
    if embed:
        embed_preprocessing(graph, PREPROCESSING)
    return write(graph, path) if limit is None else write(graph, path, limit=limit)


def run(path: Path, x: np.ndarray) -> list[np.ndarray]:
    import onnxruntime as ort

    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"input": x})


@pytest.mark.parametrize("exporter", EXPORTERS)
class TestBothExporters:
    def test_numbers_names_and_folding(self, exporter: str, tmp_path: Path) -> None:
        module, path = seeded(Plain), tmp_path / "plain.onnx"
        assert export_to(path, exporter, module) == [path]
        check(path, opset=18, batch="batch", outputs=["output"])
        assert "BatchNormalization" not in count_nodes(path)
        graph = onnx.load(path).graph
        names = [node.name for node in graph.node]
        assert len(set(names)) == len(names)
        convs = [module_of(node.name) for node in graph.node if node.op_type == "Conv"]
        assert convs == ["conv1", "conv2", "block.0"]
        assert [name for name in names if module_of(name) == "relu"] == ["relu/Relu", "relu/Relu_1"]
        x = torch.rand(3, 3, 16, 16)
        np.testing.assert_allclose(run(path, x.numpy())[0], module(x).detach().numpy(), rtol=1e-4, atol=1e-5)

    def test_no_path_of_this_machine_is_inside(self, exporter: str, tmp_path: Path) -> None:
        path = tmp_path / "plain.onnx"
        export_to(path, exporter, seeded(Plain))
        content = path.read_bytes()
        here = [os.path.expanduser("~"), os.getcwd(), sys.prefix, str(tmp_path), str(Path(__file__).parent)]
        for place in (*here, "site-packages", ".py\x22", "nets.py", "stack_trace", "torch.onnx"):
            assert place.encode() not in content, place
        model = onnx.load(path)
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
        assert all(prop.key.startswith("deploykit.") for prop in model.metadata_props)

    def test_two_exports_are_byte_identical(self, exporter: str, tmp_path: Path) -> None:
        first, second = tmp_path / "a" / "plain.onnx", tmp_path / "b" / "plain.onnx"
        for path in (first, second):
            export_to(path, exporter, seeded(Plain))
        assert first.read_bytes() == second.read_bytes()

    def test_embedded_preprocessing_equals_the_outside_one(self, exporter: str, tmp_path: Path) -> None:
        module, path = seeded(Plain), tmp_path / "raw.onnx"
        export_to(path, exporter, module, embed=True)
        check(path, opset=18, batch="batch", outputs=["output"])
        images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
        scaled = (images / 255 - np.array(PREPROCESSING.mean)) / np.array(PREPROCESSING.std)
        x = torch.tensor(scaled.transpose(0, 3, 1, 2), dtype=torch.float32)
        np.testing.assert_allclose(run(path, images)[0], module(x).detach().numpy(), rtol=1e-4, atol=1e-5)

    def test_several_outputs_keep_their_names(self, exporter: str, tmp_path: Path) -> None:
        module, path = seeded(TwoOutputs), tmp_path / "two.onnx"
        export_to(path, exporter, module, names=("out", "aux"))
        check(path, opset=18, batch="batch", outputs=["out", "aux"])
        x = torch.rand(3, 3, 16, 16)
        for found, wanted in zip(run(path, x.numpy()), module(x).values(), strict=True):
            np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-4, atol=1e-5)

    def test_a_missing_operator_is_the_reason_named(self, exporter: str, tmp_path: Path) -> None:
        with pytest.raises(AnswerNo, match=f"the {exporter} exporter failed: .*qr"):
            export_to(tmp_path / "qr.onnx", exporter, seeded(Spectral))

    def test_the_exporter_is_silent(
        self, exporter: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
    ) -> None:
        export_to(tmp_path / "plain.onnx", exporter, seeded(Plain))
        assert capfd.readouterr() == ("", "")
        assert not recwarn.list


def test_large_weights_lie_beside_the_file_and_are_the_same_each_time(tmp_path: Path) -> None:
    paths = [tmp_path / name / "plain.onnx" for name in "ab"]
    for path in paths:
        files = export_to(path, "dynamo", seeded(Plain), limit=100)
        assert [file.name for file in files] == ["plain.onnx", "plain.onnx.data"]
        check(path, opset=18, batch="batch", outputs=["output"])
    for suffix in ("", ".data"):
        one, other = (path.with_name(path.name + suffix).read_bytes() for path in paths)
        assert one == other
    x = np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)
    assert run(paths[0], x)[0].shape == (2, 5)


class TestCheck:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        export_to(tmp_path / "plain.onnx", "torchscript", seeded(Plain))
        return tmp_path / "plain.onnx"

    def changed(self, path: Path, change) -> Path:
        model = onnx.load(path)
        change(model)
        onnx.save(model, path)
        return path

    def test_another_opset(self, path: Path) -> None:
        with pytest.raises(AnswerNo, match="opset 18 was written instead of 17"):
            check(path, opset=17, batch="batch", outputs=["output"])

    def test_a_fixed_batch_where_it_should_be_free(self, path: Path) -> None:
        def fix(model: onnx.ModelProto) -> None:
            model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2

        with pytest.raises(AnswerNo, match=r"dimension 0 of 'output' is not the batch; got 2; expected batch"):
            check(self.changed(path, fix), opset=18, batch="batch", outputs=["output"])

    def test_other_outputs(self, path: Path) -> None:
        with pytest.raises(AnswerNo, match=r"other outputs than asked for; got \['output'\]"):
            check(path, opset=18, batch="batch", outputs=["logits"])

    def test_a_graph_that_the_checker_refuses(self, path: Path) -> None:
        def break_it(model: onnx.ModelProto) -> None:
            model.graph.node[0].input[0] = "nowhere"

        with pytest.raises(AnswerNo, match=r"the ONNX checker refuses the file: .*nowhere"):
            check(self.changed(path, break_it), opset=18, batch="batch", outputs=["output"])


def test_the_innermost_cause_is_the_reason_without_paths() -> None:
    def fail() -> None:
        try:
            raise ValueError("no \x1b[31mkernel\x1b[0m in /home/someone/lib/torch/x.py\nmore")
        except ValueError as error:
            raise RuntimeError("wrapped") from error

    with pytest.raises(RuntimeError) as caught:
        fail()
    assert reason_of(caught.value) == "ValueError: no kernel in x.py"


def test_torchscript_names_the_opset_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(AnswerNo, match="it writes opsets up to 20, opset 23 was asked for"):
        export_with(
            "torchscript", seeded(Plain), torch.zeros(2, 3, 16, 16), ["output"], 23, dynamic=True, folder=tmp_path
        )


def test_bad_input_inside_an_exporter_is_not_swallowed(tmp_path: Path) -> None:
    class Refuses(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, BadInput)):
        export_with("torchscript", Refuses(), torch.zeros(2, 3, 4, 4), ["output"], 18, dynamic=True, folder=tmp_path)
