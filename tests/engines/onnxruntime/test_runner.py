"""The ONNX Runtime runner on a real exported network."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deploykit.base.artifact import manifest_path
from deploykit.base.errors import AnswerNo, BadInput, Unavailable
from deploykit.base.overrides import Stated
from deploykit.base.runner import Runner
from deploykit.engines import open_runner
from tests.engines.onnx_for_tests import counting_net


def _x(n=3):
    return np.random.default_rng(0).normal(size=(n, 3, 32, 32)).astype(np.float32)


def test_it_answers_as_eager_pytorch_does(tiny_onnx, tiny_model):
    with open_runner(tiny_onnx, threads=1) as runner, open_runner(tiny_model, threads=1) as eager:
        assert isinstance(runner, Runner)
        assert isinstance(eager, Runner)
        for n in (1, 2, 5, 1):
            np.testing.assert_allclose(runner(_x(n)), eager(_x(n)), atol=1e-4)
        assert runner.preprocessing == eager.preprocessing
        assert runner.classes == eager.classes == tuple("0123456789")
        assert (runner.target, runner.device, runner.threads, runner.precision) == ("ort-cpu", "cpu", 1, "fp32")
        assert list(runner.run_all(_x())) == ["output"]


def test_answers_are_new_arrays_and_deterministic(tiny_onnx):
    with open_runner(tiny_onnx, threads=1) as runner:
        first = runner(_x())
        kept = first.copy()
        assert not np.array_equal(runner(-_x()), kept)
        np.testing.assert_array_equal(first, kept)
        np.testing.assert_array_equal(runner(_x()), kept)
        rerun = runner.prebound(_x())
        rerun()
        np.testing.assert_array_equal(runner(_x()), kept)


def test_many_batch_sizes_do_not_pile_up_buffers(tiny_onnx):
    with open_runner(tiny_onnx, threads=1) as runner:
        for n in range(1, 12):
            assert runner(_x(n)).shape == (n, 10)
        assert len(runner._bound) == 4


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (_x().astype(np.float64), r"got float64 \[3, 3, 32, 32\]; expected float32 \['batch', 3, 32, 32\]"),
        (_x().astype(np.float16), "got float16"),
        (_x()[:0], "the batch is empty"),
        (_x()[:, :, :31], "wrong size of input 'input'"),
        (_x()[0], r"got float32 \[3, 32, 32\]"),
        ([1, 2], "no numpy array; got list"),
    ],
)
def test_wrong_input_is_named_and_never_cast(tiny_onnx, x, message):
    with open_runner(tiny_onnx, threads=1) as runner:
        with pytest.raises(BadInput, match=message):
            runner(x)
        runner(_x(2))  # still works
        with pytest.raises(BadInput):
            runner(x)


def test_a_strided_input_is_taken_as_it_is(tiny_onnx):
    with open_runner(tiny_onnx, threads=1) as runner:
        strided = np.asarray(_x().transpose(0, 2, 3, 1), order="C").transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(runner(strided), runner(_x()))


@pytest.mark.parametrize("target", ["ort-cpu", "openvino"])
def test_an_output_whose_size_only_the_run_tells(tmp_path, target):
    if target == "openvino":
        pytest.importorskip("openvino")
    path = counting_net(tmp_path / "c.onnx")
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    with open_runner(f"{path}@{target}", threads=1, stated=Stated((8, 8))) as runner:
        for given in (x, -np.abs(x), np.abs(x), x):
            np.testing.assert_array_equal(runner(given), np.array(np.nonzero(given > 0)))
        runner.prebound(x)()


def test_a_fixed_batch_takes_no_other(tmp_path, tiny_model):
    from deploykit.commands.export import export
    from deploykit.config.export import ExportConfig

    path = tmp_path / "fixed.onnx"
    export(tiny_model, path, ExportConfig(batch=2))
    with open_runner(path, threads=1) as runner:
        assert runner.inputs[0].fixed_batch == 2
        assert runner(_x(2)).shape == (2, 10)
        with pytest.raises(BadInput, match="takes only batch 2; got batch 3"):
            runner(_x(3))


def test_a_lone_file_still_knows_its_preprocessing(tiny_onnx, tmp_path):
    lone = shutil.copy(tiny_onnx, tmp_path / "lone.onnx")
    assert not manifest_path(Path(lone)).exists()
    with open_runner(lone, threads=1) as runner:
        assert runner.preprocessing.mean == (0.5, 0.5, 0.5)
        assert runner.classes == tuple("0123456789")
    with pytest.raises(BadInput, match=r"takes pictures of \[32, 32\] pixels; got size \[64, 64\]"):
        open_runner(lone, stated=Stated((64, 64)))


def test_the_manifest_wins_over_the_metadata(tiny_onnx, tmp_path):
    import json

    copy = Path(shutil.copy(tiny_onnx, tmp_path / "copy.onnx"))
    fields = json.loads(manifest_path(tiny_onnx).read_text())
    fields["classes"] = [f"class {n}" for n in range(10)]
    manifest_path(copy).write_text(json.dumps(fields))
    with open_runner(copy, threads=1) as runner:
        assert runner.classes[0] == "class 0"


def test_the_audit_counts_nodes_by_provider(tiny_onnx):
    with open_runner(tiny_onnx, threads=1) as runner:
        found = runner.audit()
    assert found["nodes_by_provider"].keys() == {"CPUExecutionProvider"}
    assert found["memcpy_nodes"] == 0
    assert found["convs"] >= 7
    assert found["int8_convs"] == 0
    assert sum(found["ops"].values()) == found["nodes"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected an ONNX model"),
        (b"hello, this is no model", "is no ONNX model"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "is no ONNX model"),
    ],
)
def test_foreign_files_get_one_line(tmp_path, content, message):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message) as caught:
        open_runner(path)
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_files_get_one_line(tmp_path, tiny_onnx, share):
    path = tmp_path / "cut.onnx"
    content = tiny_onnx.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BadInput, match=r"cut\.onnx"):
        open_runner(path)


def test_a_missing_external_data_file_is_named(tmp_path, tiny_onnx):
    import onnx

    path = tmp_path / "split.onnx"
    onnx.save(onnx.load(tiny_onnx), path, save_as_external_data=True, location="split.data", size_threshold=0)
    (tmp_path / "split.data").unlink()
    with pytest.raises(BadInput, match=r"lacks its external data.*Keep the \.data file"):
        open_runner(path)


def test_an_opset_from_the_future_is_named(tmp_path, tiny_onnx):
    import onnx

    model = onnx.load(tiny_onnx)
    model.opset_import[0].version = 99
    path = tmp_path / "future.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BadInput, match="needs a newer ONNX Runtime"):
        open_runner(path)


def test_a_graph_that_cannot_run_answers_no(tmp_path):
    from onnx import TensorProto, helper, save

    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["shape"], value_ints=[2, 3072]),
            helper.make_node("Reshape", ["input", "shape"], ["output"]),
        ],
        "hard-coded batch",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 3072])],
    )
    path = tmp_path / "batch.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    with open_runner(path, threads=1) as runner:
        assert runner(_x(2)).shape == (2, 3072)
        with pytest.raises(AnswerNo, match=r"does not run an input of shape \[3, 3, 32, 32\]"):
            runner(_x(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("optimisation=all", "has no option 'optimisation'.*Did you mean 'optimization'"),
        ("optimization=most", "option optimization; got 'most'"),
        ("spinning=yes", "option spinning; got 'yes'; expected 0 or 1"),
    ],
)
def test_unknown_options_are_refused(tiny_onnx, options, message):
    with pytest.raises(BadInput, match=message):
        open_runner(f"{tiny_onnx}@ort-cpu:{options}")


def test_levels_of_optimization_agree(tiny_onnx):
    with open_runner(f"{tiny_onnx}@ort-cpu:optimization=none", threads=1) as plain, open_runner(tiny_onnx) as runner:
        np.testing.assert_allclose(plain(_x()), runner(_x()), atol=1e-4)


def test_a_provider_that_does_not_load_is_an_error_that_names_the_library(tiny_onnx):
    from deploykit.engines.onnxruntime.providers import missing_library

    reason = missing_library("CUDAExecutionProvider")
    if reason is None:
        pytest.skip("the CUDA provider loads here")
    with pytest.raises(Unavailable, match="ort-cuda cannot run here: CUDAExecutionProvider does not load") as caught:
        open_runner(f"{tiny_onnx}@ort-cuda")
    assert reason in caught.value.line()
    assert caught.value.exit_code == 4


def test_an_array_of_another_library_is_read_where_it_lies(tiny_onnx):
    import torch

    with open_runner(tiny_onnx, threads=1) as runner:
        for n in (1, 3):
            x = torch.from_numpy(_x(n))
            np.testing.assert_array_equal(runner(x), runner(_x(n)))
            np.testing.assert_array_equal(runner.run_all(x)["output"], runner(_x(n)))
        with pytest.raises(BadInput, match="wrong input 'input'; got float16; expected float32"):
            runner(x.half())
        with pytest.raises(BadInput, match="wrong size of input 'input'"):
            runner(x[:, :, :31].contiguous())
        with pytest.raises(BadInput, match="not contiguous"):
            runner(x.to(memory_format=torch.channels_last))
    with pytest.raises(BadInput, match="is closed"):
        runner(x)


@pytest.mark.gpu
@pytest.mark.parametrize("options", ["", ":cuda_graph=1"])
def test_arrays_on_the_gpu_are_read_where_they_lie(tiny_onnx, options):
    import torch

    from deploykit.engines.onnxruntime.providers import missing_library

    if (reason := missing_library("CUDAExecutionProvider")) is not None:
        pytest.skip(f"the CUDA provider does not load: {reason}")
    with open_runner(f"{tiny_onnx}@ort-cuda{options}") as cuda, open_runner(tiny_onnx) as runner:
        for n in (1, 4, 1):
            np.testing.assert_allclose(cuda(torch.from_numpy(_x(n)).cuda() * 1), cuda(_x(n)), atol=1e-5)
        with pytest.raises(BadInput, match="lies on another device than the engine runs on; got the host"):
            cuda(torch.from_numpy(_x(1)))
        with pytest.raises(BadInput, match=r"got a GPU; expected cpu. Pass x.cpu\(\)"):
            runner(torch.from_numpy(_x(1)).cuda())


@pytest.mark.gpu
def test_cuda_answers_as_the_cpu_does(tiny_onnx):
    from deploykit.engines.onnxruntime.providers import missing_library

    if (reason := missing_library("CUDAExecutionProvider")) is not None:
        pytest.skip(f"the CUDA provider does not load: {reason}")
    with open_runner(f"{tiny_onnx}@ort-cuda:use_tf32=0") as cuda, open_runner(tiny_onnx) as runner:
        np.testing.assert_allclose(cuda(_x()), runner(_x()), atol=1e-3)
        assert cuda.audit()["memcpy_nodes"] == 0


def test_the_engine_imports_no_torch(tiny_onnx):
    code = f"""
import sys
import numpy as np
from deploykit.engines import open_runner
with open_runner({str(tiny_onnx)!r}, threads=1) as runner:
    runner(np.zeros((1, 3, 32, 32), np.float32))
    runner.audit()
assert "torch" not in sys.modules and "pydantic" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
