from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from deploykit.base.errors import BadInput
from deploykit.commands.export import export
from deploykit.commands.verify import verify
from deploykit.config.export import ExportConfig
from deploykit.config.verify import VerifyConfig
from deploykit.engines import open_runner
from deploykit.evaluation.compare_runners import parity_of, usable_batches


@pytest.fixture(scope="module")
def exported(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model.pt`` and its export ``model.onnx``."""
    folder = tmp_path_factory.mktemp("exported")
    shutil.copy(tiny_model, folder / "model.pt")
    export(folder / "model.pt", config=ExportConfig(exporter="torchscript", opset=17))
    return folder


@pytest.fixture
def files(exported: Path, tmp_path: Path) -> tuple[Path, Path]:
    for path in exported.iterdir():
        shutil.copy(path, tmp_path / path.name)
    return tmp_path / "model.pt", tmp_path / "model.onnx"


def changed(path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """A faulty copy of a graph, without manifest."""
    model = onnx.load(path)
    change(model)
    target = path.with_name("faulty.onnx")
    onnx.save(model, target)
    return target


def weight(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(one for one in model.graph.initializer if one.name == name)


def scale(layer: str, factor: float) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if node.name == f"{layer}/Conv")
        tensor = weight(model, node.input[1])
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))

    return change


def layers(path: Path) -> list[str]:
    return [node.name.rpartition("/")[0] for node in onnx.load(path).graph.node if node.op_type == "Conv"]


def test_an_export_holds(files: tuple[Path, Path]) -> None:
    result = verify(*files)
    assert result.ok
    assert result.verified_on == "samples"
    assert result.parity.n == 32
    assert [one.batch for one in result.parity.by_batch] == [1, 2, 8]
    assert (result.parity.top1_low or 0) < 1 == result.parity.top1_high
    assert ": ok (fp32, 32 images of samples)" in result.summary()
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_file_equals_itself(files: tuple[Path, Path]) -> None:
    result = verify(files[1], files[1])
    assert result.parity.identical
    assert result.to_dict()["parity"]["snr_db"] is None
    assert "identical in every number" in result.summary()


def test_samples_are_found_through_the_manifest(files: tuple[Path, Path]) -> None:
    assert verify(files[1], files[1]).verified_on == "samples"


def test_without_samples_pictures_are_synthetic_or_refused(files: tuple[Path, Path]) -> None:
    files[1].with_name("model.onnx.manifest.json").unlink()
    assert verify(files[1], files[1]).verified_on == "synthetic"
    with pytest.raises(BadInput, match="no real pictures to verify on"):
        verify(files[1], files[1], VerifyConfig(require_real=True))


@pytest.mark.parametrize("which", [0, 3, -1])
@pytest.mark.parametrize("against", ["module", "graph"])
def test_a_perturbed_weight_fails_and_bisect_finds_its_layer(
    files: tuple[Path, Path], which: int, against: str
) -> None:
    model, graph = files
    layer = layers(graph)[which]
    faulty = changed(graph, scale(layer, 1.02))
    result = verify(model if against == "module" else graph, faulty, VerifyConfig(bisect=True))
    assert not result.ok
    assert "expected at least 80 dB for fp32" in result.parity.reasons[0]
    assert result.parting is not None
    assert result.parting.module == layer
    assert result.parting.op_type == "Conv"
    assert result.parting.snr_db is not None
    assert 20 < result.parting.snr_db < 50
    assert result.parting.snr_before_db is None or result.parting.snr_before_db > 100
    summary = result.summary()
    assert ": FAILED (fp32" in summary
    assert f"they part at {layer}/Conv (Conv of module {layer})" in summary
    assert "worst: picture" in summary


def test_bisect_takes_the_module_as_candidate_too(files: tuple[Path, Path]) -> None:
    model, graph = files
    layer = layers(graph)[2]
    result = verify(changed(graph, scale(layer, 1.02)), model, VerifyConfig(bisect=True))
    assert result.parting is not None
    assert (
        layer.rpartition(".")[0] == result.parting.module.rpartition(".")[0]
    )  # its norm answers what the graph folded


def test_a_file_that_needs_its_architecture_named_is_verified_and_bisected(files: tuple[Path, Path]) -> None:
    import torch

    bare = files[0].with_name("bare.pth")
    torch.save(torch.load(files[0], weights_only=True)["tensors"], bare)
    with pytest.raises(
        BadInput, match=r"fits 2 networks.*'.*bare\.pth@torch-eager:arch=\"deploykit:resnet:"
    ) as refused:
        verify(bare, files[1])
    assert "--arch" not in refused.value.line()  # verify has no such option
    with pytest.raises(BadInput, match=r"fits 2 networks.*--arch 'deploykit:resnet:") as refused:
        export(bare)
    assert "torch-eager" not in refused.value.line()
    named = f'{bare}@torch-eager:arch="deploykit:resnet:depth=8,widths=[8, 16, 32],stem_stride=2"'
    assert verify(named, files[1]).parity.n == 32
    layer = layers(files[1])[3]
    result = verify(named, changed(files[1], scale(layer, 1.1)), VerifyConfig(bisect=True))
    assert result.parting is not None
    assert result.parting.module == layer


def test_a_hard_coded_batch_is_caught(files: tuple[Path, Path]) -> None:
    def fix(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if node.op_type == "Flatten")
        node.op_type, made = "Reshape", numpy_helper.from_array(np.array([1, -1]), "one_row")
        del node.attribute[:]
        node.input.append("one_row")
        model.graph.initializer.append(made)
        del model.graph.value_info[:]

    result = verify(files[0], changed(files[1], fix))
    assert not result.ok
    by_batch = {one.batch: one.ok for one in result.parity.by_batch}
    assert by_batch == {1: True, 2: False, 8: False}
    assert any(reason.startswith("batch 2:") for reason in result.parity.reasons)


def test_swapped_mean_and_std_are_caught_at_the_input(files: tuple[Path, Path]) -> None:
    def swap(model: onnx.ModelProto) -> None:
        prop = next(one for one in model.metadata_props if one.key == "deploykit.preprocessing")
        fields = json.loads(prop.value)
        fields["mean"], fields["std"] = [0.229, 0.224, 0.225], [0.485, 0.456, 0.406]
        prop.value = json.dumps(fields)

    result = verify(files[0], changed(files[1], swap), VerifyConfig(bisect=True))
    assert not result.ok
    assert result.parting is not None
    assert (result.parting.node, result.parting.op_type) == ("the input", "preprocessing")


def test_swapped_normalisation_inside_the_graph_is_caught_at_the_input(files: tuple[Path, Path]) -> None:
    config = ExportConfig(exporter="torchscript", opset=17, embed_preprocessing=True)
    raw = export(files[0], files[0].with_name("raw.onnx"), config).output
    assert verify(*files[:1], raw).ok

    def shift(model: onnx.ModelProto) -> None:
        tensor = weight(model, "preprocessing.shift")
        tensor.CopyFrom(numpy_helper.from_array(np.float32([100, 110, 120]), tensor.name))

    result = verify(files[0], changed(raw, shift), VerifyConfig(bisect=True))
    assert not result.ok
    assert result.parting is not None
    assert result.parting.node == "the input"


def test_nan_answers_fail(files: tuple[Path, Path]) -> None:
    result = verify(files[0], changed(files[1], scale(layers(files[1])[0], np.nan)), VerifyConfig(precision="int8"))
    assert not result.ok
    assert result.parity.nan == (16 + 16 + 32) * 10
    assert result.parity.max_abs is None
    assert "NaN or infinite numbers" in result.summary()
    json.dumps(result.to_dict(), allow_nan=False)


def relabelled(path: Path, classes: list[str], columns: list[int] | None = None) -> Path:
    def change(model: onnx.ModelProto) -> None:
        next(one for one in model.metadata_props if one.key == "deploykit.classes").value = json.dumps(classes)
        gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
        for name in gemm.input[1:3] if columns is not None else ():
            tensor = weight(model, name)
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[columns], name))

    return changed(path, change)


def test_classes_in_another_order_are_compared_by_name(files: tuple[Path, Path]) -> None:
    order = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert verify(files[0], relabelled(files[1], [str(i) for i in order], order)).ok


def test_other_classes_are_refused(files: tuple[Path, Path]) -> None:
    with pytest.raises(
        BadInput, match="different classes; got 10 classes, with cat; expected the reference's 10: 0, 1, 2"
    ):
        verify(files[0], relabelled(files[1], ["cat", *"123456789"]))


def test_data_name_the_worst_pictures(files: tuple[Path, Path], image_folder: Path) -> None:
    faulty = changed(files[1], scale(layers(files[1])[0], 3.0))
    result = verify(files[0], faulty, VerifyConfig(data=str(image_folder), split="train", images=10))
    assert result.verified_on == "data"
    assert result.worst[0]["file"].endswith(".png")
    assert ".png)" in result.summary()


def test_a_fixed_batch_runs_that_one_only(files: tuple[Path, Path]) -> None:
    fixed = export(files[0], files[0].with_name("b3.onnx"), ExportConfig(exporter="torchscript", opset=17, batch=3))
    result = verify(files[0], fixed.output)
    assert result.ok
    assert [(one.batch, one.n) for one in result.parity.by_batch] == [(3, 32)]


def test_batches_below_one_are_refused(files: tuple[Path, Path]) -> None:
    with open_runner(files[1]) as runner, pytest.raises(BadInput, match=r"batch sizes; got \[0\]"):
        usable_batches((0,), runner)


def test_no_pictures_are_refused(files: tuple[Path, Path]) -> None:
    with open_runner(files[1]) as runner, pytest.raises(BadInput, match="no pictures to compare on"):
        parity_of(runner, runner, [])


def test_a_few_pictures_still_try_the_large_batch(files: tuple[Path, Path]) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    with open_runner(files[0]) as one, open_runner(files[1]) as other:
        found = parity_of(one, other, list(pictures), (1, 8))
    assert [(part.batch, part.n, part.ok) for part in found.by_batch] == [(1, 3, True), (8, 3, True)]


def test_a_missing_file_is_one_line(files: tuple[Path, Path]) -> None:
    with pytest.raises(BadInput, match=r"none\.onnx does not exist"):
        verify(files[0], files[0].with_name("none.onnx"))
