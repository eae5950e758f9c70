from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from deploykit.base.errors import BadInput, Unavailable
from deploykit.base.overrides import Stated
from deploykit.base.runner import Runner
from deploykit.commands.export import export
from deploykit.config.export import ExportConfig
from deploykit.engines import open_runner
from deploykit.engines.openvino import compiled_model as loading

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def net(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("openvino") / "net.onnx"
    return export(tiny_model, path, ExportConfig(exporter="torchscript", opset=17)).output


def pictures(n: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3, 32, 32)).astype(np.float32)


def test_it_answers_as_onnx_runtime_does_and_says_what_it_is(net: Path) -> None:
    with open_runner(f"{net}@openvino", threads=1) as ours, open_runner(net, threads=1) as ort:
        assert isinstance(ours, Runner)
        assert (ours.target, ours.device, ours.threads, ours.precision) == ("openvino", "cpu", 1, "fp32")
        assert ours.inputs == ort.inputs
        assert ours.outputs == ort.outputs
        assert ours.preprocessing == ort.preprocessing
        assert ours.classes == ort.classes
        assert "OpenVINO computes float32 layers in f32, as it was told" in ours.notes
        for n in (1, 2, 5, 3, 8, 1):  # more shapes than are kept
            x = pictures(n, n)
            assert ours(x).dtype == np.float32
            np.testing.assert_allclose(ours(x), ort(x), rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(ours.run_all(x)["output"], ort(x), rtol=1e-4, atol=1e-4)


def test_an_answer_is_not_changed_by_the_next_call(net: Path) -> None:
    with open_runner(f"{net}@openvino", threads=1) as runner:
        first = runner(pictures(2, 1))
        kept = first.copy()
        runner(pictures(2, 2))
        np.testing.assert_array_equal(first, kept)


def test_prebound_runs_what_lies_there(net: Path) -> None:
    with open_runner(f"{net}@openvino", threads=1) as runner:
        call = runner.prebound(pictures(1, 3))
        call()
        np.testing.assert_array_equal(runner._bound[(1, 3, 32, 32)].output(0), runner(pictures(1, 3)))


def test_the_audit_counts_layers_and_their_precision(net: Path) -> None:
    with open_runner(f"{net}@openvino", threads=1) as runner:
        found = runner.audit()
    convs = sum(node.op_type == "Conv" for node in onnx.load(net).graph.node)
    assert (found["convs"], found["int8_convs"], found["float_convs"]) == (convs, 0, [])
    assert found["precisions"] == {"f32": found["nodes"]}
    assert found["fully_connected"] == 1


def test_an_ir_file_runs_and_is_its_natural_target(net: Path, tmp_path: Path) -> None:
    loading.library().save_model(loading.read(net), str(tmp_path / "net.xml"), compress_to_fp16=False)
    with (
        open_runner(tmp_path / "net.xml", threads=1, stated=Stated((32, 32))) as ours,
        open_runner(net, threads=1) as ort,
    ):
        assert ours.target == "openvino"
        np.testing.assert_allclose(ours(pictures()), ort(pictures()), rtol=1e-4, atol=1e-4)
    (tmp_path / "net.bin").unlink()
    with pytest.raises(BadInput, match=r"net\.xml lacks its weights; expected net\.bin beside it"):
        open_runner(tmp_path / "net.xml", stated=Stated((32, 32)))


def test_a_fixed_batch_and_an_embedded_normalisation(tiny_model: Path, tmp_path: Path) -> None:
    config = ExportConfig(exporter="torchscript", opset=17, batch=2, embed_preprocessing=True)
    path = export(tiny_model, tmp_path / "fixed.onnx", config).output
    with open_runner(f"{path}@openvino", threads=1) as ours, open_runner(path, threads=1) as ort:
        assert (ours.inputs[0].dtype, ours.inputs[0].layout, ours.inputs[0].fixed_batch) == ("uint8", "NHWC", 2)
        x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
        np.testing.assert_allclose(ours(x), ort(x), rtol=1e-4, atol=1e-4)
        with pytest.raises(BadInput, match="takes only batch 2; got batch 1"):
            ours(x[:1])


def test_a_float16_file_takes_float32_pictures(net: Path) -> None:
    made = export(net, net.with_name("half.onnx"), ExportConfig(precision="fp16", images=8, data="digits"))
    with open_runner(f"{made.output}@openvino", threads=1) as ours, open_runner(net, threads=1) as ort:
        assert (ours.inputs[0].dtype, ours.precision) == ("float16", "fp16")
        np.testing.assert_allclose(ours(pictures()), ort(pictures()), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (":precission=f32", "openvino has no option 'precission'.*Did you mean 'precision'"),
        (":precision=int8", "option precision; got 'int8'; expected f32, bf16, f16"),
        (":pinning=yes", "option pinning; got 'yes'; expected 0 or 1"),
    ],
)
def test_bad_options(net: Path, options: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        open_runner(f"{net}@openvino{options}", threads=1)


def test_bad_files(net: Path, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "half.onnx").write_bytes(net.read_bytes()[:500])
    (tmp_path / "bad.xml").write_text("<net></net>")
    (tmp_path / "bad.bin").touch()
    for name, message in (
        ("empty.onnx", r"empty\.onnx is empty"),
        ("half.onnx", r"half\.onnx cannot be read by OpenVINO"),
        ("bad.xml", r"bad\.xml cannot be read by OpenVINO"),
    ):
        with pytest.raises(BadInput, match=message) as caught:
            open_runner(f"{tmp_path / name}@openvino")
        assert "src/" not in caught.value.line()
    with pytest.raises(BadInput, match=r"openvino cannot run .*tiny\.pt; expected \.xml or \.onnx.*deploykit export"):
        open_runner(f"{tiny_model}@openvino")
    with pytest.raises(BadInput, match=r"ort-cpu cannot run .*bad\.xml"):
        open_runner(f"{tmp_path / 'bad.xml'}@ort-cpu")


def test_wrong_inputs_and_a_closed_runner(net: Path) -> None:
    runner = open_runner(f"{net}@openvino", threads=1)
    with pytest.raises(BadInput, match="wrong input 'input'; got uint8"):
        runner(pictures().astype(np.uint8))
    with pytest.raises(BadInput, match="wrong size of input 'input'"):
        runner(np.zeros((1, 3, 16, 16), np.float32))
    runner.close()
    runner.close()
    with pytest.raises(BadInput, match="is closed"):
        runner(pictures())


def test_a_missing_package_names_its_extra(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loading.library.cache_clear()
    loading.core.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    try:
        with pytest.raises(Unavailable, match=r"openvino cannot run here.*pip install 'deploykit\[openvino\]'"):
            open_runner(f"{net}@openvino")
    finally:
        loading.library.cache_clear()
        loading.core.cache_clear()


def test_it_neither_calls_home_nor_imports_torch(net: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from deploykit.engines import open_runner; open_runner(sys.argv[1]); "
        "assert 'torch' not in sys.modules and 'openvino_telemetry' not in sys.modules"
    )
    environment = os.environ | {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code, f"{net}@openvino"], env=environment, check=True, timeout=120)
    assert list(tmp_path.iterdir()) == []
