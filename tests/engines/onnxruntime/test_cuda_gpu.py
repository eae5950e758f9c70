"""ONNX Runtime's CUDA provider on a real GPU: answers, CUDA graphs, shapes that change, memory, refusals."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from deploykit.base.errors import BadInput
from deploykit.engines import open_runner
from deploykit.engines.onnxruntime.providers import missing_library
from deploykit.engines.tensorrt.cuda import Cuda
from tests.engines.gpu_memory import free_bytes
from tests.engines.onnx_for_tests import pictures, quantized_net, save, small_net

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _provider():
    if (reason := missing_library("CUDAExecutionProvider")) is not None:
        pytest.skip(f"the CUDA provider does not load: {reason}")


@pytest.mark.parametrize("options", ["use_tf32=0", "use_tf32=0,cuda_graph=1", "use_tf32=0,prefer_nhwc=1"])
def test_answers_are_those_of_the_cpu_at_every_batch(tmp_path, options):
    path = small_net(tmp_path / "n.onnx")
    with open_runner(f"{path}@ort-cpu") as reference, open_runner(f"{path}@ort-cuda:{options}") as runner:
        for batch in (1, 4, 2, 1, 16, 3, 8, 1, 4):  # more shapes than are kept
            x = pictures(batch)
            np.testing.assert_allclose(runner(x), reference(x), atol=1e-4, rtol=1e-4)
        rerun = runner.prebound(pictures(4))
        for _ in range(20):
            rerun()
        np.testing.assert_allclose(runner(pictures(2)), reference(pictures(2)), atol=1e-4, rtol=1e-4)
        told = runner.audit()
    assert told["memcpy_nodes"] == 0


def test_a_replayed_graph_is_not_slower(tmp_path):
    import time

    path = small_net(tmp_path / "n.onnx")
    with open_runner(f"{path}@ort-cuda:cuda_graph=1") as graph, open_runner(f"{path}@ort-cuda") as plain:
        calls = [one.prebound(pictures(8)) for one in (graph, plain)]
        times = []
        for _ in range(200):
            for call in calls:
                start = time.perf_counter()
                call()
                times.append(time.perf_counter() - start)
    replayed, launched = np.median(np.reshape(times, (-1, 2)), axis=0)
    assert replayed < 1.1 * launched


def test_fp16_answers_in_float32(tmp_path):
    path, reference = small_net(tmp_path / "h.onnx", kind=np.float16), small_net(tmp_path / "n.onnx")
    with open_runner(f"{path}@ort-cuda") as runner, open_runner(reference) as cpu:
        found = runner(pictures(4, kind=np.float16))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, cpu(pictures(4)), atol=0.05, rtol=0.02)


def test_nothing_leaks_over_ten_thousand_runs(tmp_path):
    cuda = Cuda(0)
    x = pictures(2)
    with open_runner(f"{small_net(tmp_path / 'n.onnx')}@ort-cuda") as runner:
        for batch in (1, 2, 3, 4, 5, 6):
            runner(pictures(batch))
        before = free_bytes(cuda)
        for _ in range(10_000):
            runner(x)
        assert before - free_bytes(cuda) < 1 << 22
    cuda.close()


def test_what_would_run_on_the_cpu_is_counted_or_refused(tmp_path):
    kinds = ("Softplus", "Hardmax", "Softplus")  # the one in the middle has no CUDA kernel
    names = ["input", "a", "b", "output"]
    nodes = [helper.make_node(kind, [names[i]], [names[i + 1]], f"n{i}") for i, kind in enumerate(kinds)]
    shape = ["batch", 3, 8, 8]
    path = save(
        tmp_path / "n.onnx", nodes, [], ("input", TensorProto.FLOAT, shape), ("output", TensorProto.FLOAT, shape)
    )
    with open_runner(f"{path}@ort-cuda") as runner:
        told = runner.audit()
        assert told["memcpy_nodes"] > 0
    with pytest.raises(BadInput, match=r"cannot run on ort-cuda alone: some nodes would run on the CPU"):
        open_runner(f"{path}@ort-cuda:fallback=0")


def test_quantized_files_run_and_say_that_they_compute_in_float(tmp_path):
    path = quantized_net(tmp_path / "q.onnx")
    with open_runner(f"{path}@ort-cuda:use_tf32=0") as runner, open_runner(path) as cpu:
        np.testing.assert_allclose(runner(pictures(2)), cpu(pictures(2)), atol=0.1, rtol=0.1)
        assert runner.audit()["int8_convs"] == 0


def test_another_device_is_refused(tmp_path, capsys):
    with pytest.raises(BadInput, match="option device_id of ort-cuda: Invalid device ID: 99, must be between 0"):
        open_runner(f"{small_net(tmp_path / 'n.onnx')}@ort-cuda:device_id=99")
    assert capsys.readouterr().out == ""
