from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from deploykit.base.artifact import is_unmodified, read_manifest
from deploykit.base.errors import AnswerNo, BadInput, SystemTrouble
from deploykit.commands import export as command
from deploykit.commands.export import export
from deploykit.config.common import build
from deploykit.config.export import ExportConfig
from deploykit.exporting import exporters
from tests.listening import Listening

QUICK = {"exporter": "torchscript", "opset": 17}


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_model, tmp_path / "model.pt"))


def props(path: Path) -> dict[str, str]:
    return {one.key: one.value for one in onnx.load(path).metadata_props}


def test_the_default_export_is_dynamo_verified_on_the_samples(model: Path) -> None:
    result = export(model)
    assert result.output == model.with_name("model.onnx")
    facts = result.facts
    assert (facts["exporter"], facts["tried"], facts["opset"]) == ("dynamo", [], 20)
    assert (facts["batch"], facts["batch_norms_left"]) == ("dynamic", 0)
    assert facts["verified_on"] == "samples"
    assert facts["parity"]["ok"]
    assert [one["batch"] for one in facts["parity"]["by_batch"]] == [1, 2, 8]
    manifest = read_manifest(result.output)
    assert manifest is not None
    assert is_unmodified(result.output, manifest)
    assert manifest.kind == "onnx"
    assert (manifest.parents[0].role, manifest.parents[0].path) == ("model", "model.pt")
    assert manifest.classes == tuple("0123456789")
    assert json.loads(props(result.output)["deploykit.preprocessing"]) == manifest.preprocessing
    assert json.loads(props(result.output)["deploykit.classes"]) == list("0123456789")
    assert json.loads(props(result.output)["deploykit.lineage"])[0]["stage"] == "train"
    assert str(model.parent).encode() not in result.output.read_bytes()
    assert str(model.parent) not in (model.parent / "model.onnx.manifest.json").read_text()
    assert "verified against PyTorch on 32 pictures (samples) at batch 1, 2, 8: SNR" in result.summary()
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_second_export_does_nothing_and_another_option_replaces(model: Path) -> None:
    first = export(model, config=ExportConfig(**QUICK))
    content = first.output.read_bytes()
    again = export(model, config=ExportConfig(**QUICK))
    assert not again.made
    assert "nothing done" in again.summary()
    other = export(model, config=ExportConfig(**QUICK, batch=4))
    assert other.made
    assert other.output.read_bytes() != content
    assert other.facts["parity"]["by_batch"][0]["batch"] == 4
    assert onnx.load(other.output).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 4


def test_embedded_preprocessing_takes_raw_pictures(model: Path, digits: tuple[np.ndarray, np.ndarray]) -> None:
    from deploykit.engines import open_runner

    result = export(model, config=ExportConfig(**QUICK, embed_preprocessing=True))
    with open_runner(result.output) as raw, open_runner(model) as eager:
        assert (raw.inputs[0].dtype, raw.inputs[0].shape) == ("uint8", ("batch", 32, 32, 3))
        assert raw.preprocessing is not None
        assert raw.preprocessing.embedded
        x = (digits[0][:8].transpose(0, 3, 1, 2).astype(np.float32) / 255 - 0.5) / 0.5
        np.testing.assert_allclose(raw(digits[0][:8]), eager(np.ascontiguousarray(x)), rtol=1e-4, atol=1e-4)


def test_an_old_opset_goes_to_torchscript_and_says_why(model: Path, listening: Listening) -> None:
    result = export(model, config=ExportConfig(opset=17), progress=listening)
    assert result.facts["exporter"] == "torchscript"
    assert result.facts["tried"][0]["exporter"] == "dynamo"
    assert "no opset below 18" in listening.warned[0]


def test_wrong_numbers_of_one_exporter_send_the_work_to_the_other(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = exporters._dynamo

    def faulty(*arguments):
        graph = real(*arguments)
        for node in graph.graph:
            if node.op_type == "Conv":
                weight = node.inputs[1]
                import onnx_ir as ir

                weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(1.01), name=weight.name)
                break
        return graph

    monkeypatch.setattr(exporters, "_dynamo", faulty)
    result = export(model, config=ExportConfig(opset=18))
    assert result.facts["exporter"] == "torchscript"
    assert "numbers disagree with PyTorch's: batch 1: SNR" in result.facts["tried"][0]["reason"]
    with pytest.raises(AnswerNo, match=r"cannot export: the dynamo exporter's numbers disagree .* SNR"):
        export(model, model.with_name("dynamo.onnx"), ExportConfig(opset=18, exporter="dynamo"))
    assert not model.with_name("dynamo.onnx").exists()
    assert not list(model.parent.glob(".*.tmp.*"))


def test_data_are_used_where_named(model: Path, digits_npz: Path) -> None:
    result = export(model, config=ExportConfig(**QUICK, data=str(digits_npz)))
    assert result.facts["verified_on"] == "data"
    assert str(digits_npz.parent) not in (model.parent / "model.onnx.manifest.json").read_text()


@pytest.fixture
def bare(model: Path) -> Path:
    """The same model without samples."""
    from deploykit.base.checkpoint import write_model_file
    from tests.model_files import read_model_file

    file = read_model_file(model)
    file.samples = None
    write_model_file(model, file)
    return model


def test_synthetic_pictures_are_warned_of_and_recorded(bare: Path, listening: Listening) -> None:
    result = export(bare, config=ExportConfig(**QUICK), progress=listening)
    assert result.facts["verified_on"] == "synthetic"
    assert "verified on 32 synthetic pictures" in listening.warned[0]


def test_require_real_refuses_synthetic_pictures(bare: Path) -> None:
    with pytest.raises(BadInput, match=r"there are no real pictures to verify on.*Name pictures with --data"):
        export(bare, config=ExportConfig(**QUICK, require_real=True))


class TestBadInput:
    def test_missing_model(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match=r"none\.pt does not exist"):
            export(tmp_path / "none.pt")

    def test_missing_folder(self, model: Path) -> None:
        with pytest.raises(BadInput, match=r"the folder .* does not exist. Create it first"):
            export(model, model.parent / "nowhere" / "model.onnx")

    def test_another_suffix(self, model: Path) -> None:
        with pytest.raises(BadInput, match=r"got model\.bin; expected a name that ends with \.onnx"):
            export(model, model.with_name("model.bin"))

    def test_a_foreign_file_stays(self, model: Path) -> None:
        target = model.with_name("model.onnx")
        target.write_bytes(b"mine")
        with pytest.raises(BadInput, match=r"exists and was not made by deploykit.*--force"):
            export(model, config=ExportConfig(**QUICK))
        assert target.read_bytes() == b"mine"
        assert export(model, config=ExportConfig(**QUICK), force=True).made

    def test_foreign_weights_stay(self, model: Path) -> None:
        model.with_name("model.onnx.data").write_bytes(b"mine")
        with pytest.raises(BadInput, match=r"model\.onnx\.data exists and was not made by deploykit"):
            export(model, config=ExportConfig(**QUICK))

    def test_a_modified_file_stays(self, model: Path) -> None:
        result = export(model, config=ExportConfig(**QUICK))
        result.output.write_bytes(b"changed")
        with pytest.raises(BadInput, match="was modified since deploykit made it"):
            export(model, config=ExportConfig(**QUICK))

    @pytest.mark.parametrize(
        ("fields", "line"),
        [
            ({"batch": 0}, "batch"),
            ({"opset": 12}, "opset: got 12"),
            ({"opset": 99}, "opset: got 99"),
            ({"exporter": "magic"}, "exporter: got 'magic'"),
            ({"size": 0}, "size: got 0"),
        ],
    )
    def test_values_out_of_range(self, fields: dict[str, object], line: str) -> None:
        with pytest.raises(BadInput, match=line):
            build(ExportConfig, fields, "deploykit export")

    def test_nan_weights_are_refused(self, model: Path) -> None:
        import torch

        from deploykit.base.checkpoint import write_model_file
        from tests.model_files import read_model_file

        file = read_model_file(model)
        next(iter(file.tensors.values())).view(-1)[0] = torch.nan
        write_model_file(model, file)
        with pytest.raises(BadInput, match=r"(?i)nan"):
            export(model, config=ExportConfig(**QUICK))


@pytest.mark.parametrize(
    ("trouble", "error", "line"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, None),
        (OSError(28, "No space left on device"), SystemTrouble, "the disk is full"),
    ],
)
def test_an_interrupt_or_a_full_disk_leaves_nothing(
    model: Path, monkeypatch: pytest.MonkeyPatch, trouble: BaseException, error: type[BaseException], line: str | None
) -> None:
    import deploykit.exporting.write_onnx as write

    def fails(graph: object, path: Path) -> list[Path]:
        path.write_bytes(b"half")
        raise trouble

    monkeypatch.setattr(write, "write", fails)
    with pytest.raises(error, match=line):
        export(model, config=ExportConfig(**QUICK))
    assert [path.name for path in model.parent.iterdir()] == ["model.pt"]


def test_weights_of_an_older_large_export_go(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import deploykit.exporting.write_onnx as write

    real = write.write
    monkeypatch.setattr(write, "write", lambda graph, path: real(graph, path, limit=100))
    large = export(model, config=ExportConfig(**QUICK))
    assert large.files == ("model.onnx", "model.onnx.data")
    manifest = read_manifest(large.output)
    assert manifest is not None
    assert set(manifest.files) == {"model.onnx", "model.onnx.data"}
    monkeypatch.setattr(write, "write", real)
    export(model, config=ExportConfig(**QUICK, batch=1))
    assert not model.with_name("model.onnx.data").exists()


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("Spectral", "the torchscript exporter failed: .*qr.* \\(used by tests/exporting/nets.py:"),
        ("Branching", "the torchscript exporter would keep for all images what .*nets.py:"),
    ],
)
def test_what_no_exporter_can_do_names_both_reasons(
    name: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import deploykit.models
    from deploykit.base.checkpoint import Arch
    from deploykit.base.preprocessing import Preprocessing
    from deploykit.models import LoadedModel
    from tests.exporting import nets

    def loaded(path: Path, **_: object) -> LoadedModel:
        module = nets.seeded(getattr(nets, name))
        return LoadedModel(
            module, Arch("module", "nets"), Preprocessing((8, 8), mean=(0.5,) * 3), None, None, [], [], "0" * 64
        )

    monkeypatch.setattr(deploykit.models, "load_model", loaded)
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(AnswerNo, match=rf"cannot export: the dynamo exporter failed: .* · {other}"):
        export(tmp_path / "model.pt", config=ExportConfig(opset=18))


class TestExportedProgram:
    @pytest.fixture
    def program(self, tmp_path: Path):
        import torch

        from tests.exporting.nets import Plain, seeded

        def save(dynamic: bool) -> Path:
            shapes = ({0: torch.export.Dim("n")},) if dynamic else None
            program = torch.export.export(seeded(Plain), (torch.zeros(4, 3, 16, 16),), dynamic_shapes=shapes)
            torch.export.save(program, tmp_path / "model.pt2")
            return tmp_path / "model.pt2"

        return save

    def test_a_free_batch_is_named_batch(self, program) -> None:
        result = export(program(True))
        assert result.facts["exporter"] == "dynamo"
        shape = onnx.load(result.output).graph.input[0].type.tensor_type.shape
        assert shape.dim[0].dim_param == "batch"

    def test_a_fixed_batch_has_to_be_asked_for(self, program) -> None:
        path = program(False)
        with pytest.raises(BadInput, match=r"takes batch size 4 only; got --batch dynamic\. Pass --batch 4"):
            export(path)
        assert export(path, config=ExportConfig(batch=4)).facts["parity"]["ok"]


def test_stage_version_is_stated(model: Path) -> None:
    manifest = read_manifest(export(model, config=ExportConfig(**QUICK)).output)
    assert manifest is not None
    assert manifest.version == command.STAGE.version


def test_a_network_that_always_answers_the_same_is_said(tmp_path, tiny_model):
    from dataclasses import replace

    from deploykit.base.checkpoint import write_model_file
    from tests.model_files import read_model_file

    file = read_model_file(tiny_model)
    zero = {name: tensor * 0 if name == "fc.weight" else tensor for name, tensor in file.tensors.items()}
    write_model_file(tmp_path / "zero.pt", replace(file, tensors=zero))
    result = export(tmp_path / "zero.pt")
    assert any("answers the same for different pictures" in note for note in result.facts["notes"])
