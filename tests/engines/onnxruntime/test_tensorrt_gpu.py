"""ONNX Runtime's TensorRT provider on a real GPU: answers, precision, its caches, CUDA graphs.

Runs with ``make test-gpu`` where TensorRT 10 is installed, which the provider links (``pip install 'deploykit[ort-trt]'``).
"""

import numpy as np
import pytest

from deploykit.base.user_cache import cache_folder
from deploykit.engines import open_runner
from deploykit.engines.onnxruntime.providers import missing_library
from tests.engines.onnx_for_tests import pictures, quantized_net, small_net

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _provider():
    if (reason := missing_library("TensorrtExecutionProvider")) is not None:
        pytest.skip(f"the TensorRT provider does not load: {reason}")


def caches():
    return sorted(one for one in (cache_folder() / "ort-trt").rglob("*") if one.is_file())


@pytest.mark.parametrize("options", ["", ":cuda_graph=1", ":profile_min=input:1x3x8x8,profile_opt=input:4x3x8x8"])
def test_answers_are_those_of_the_cpu(tmp_path, options):
    path = small_net(tmp_path / "n.onnx")
    if "profile" in options:
        options += ",profile_max=input:8x3x8x8"
    with open_runner(f"{path}@ort-cpu") as reference, open_runner(f"{path}@ort-trt{options}") as runner:
        for batch in (1, 4, 2, 8, 1):
            np.testing.assert_allclose(runner(pictures(batch)), reference(pictures(batch)), atol=1e-2, rtol=1e-2)
        placed = runner.audit()["nodes_by_provider"]
    assert placed.get("TensorrtExecutionProvider", 0) > 0
    assert placed.get("CPUExecutionProvider", 0) == 0


def test_engines_are_kept_and_those_of_another_file_are_not_taken(tmp_path):
    first, second = small_net(tmp_path / "a.onnx"), small_net(tmp_path / "b.onnx", size=8, batch=2)
    with open_runner(f"{first}@ort-trt") as runner:
        wanted = runner(pictures(2))
    kept = caches()
    assert any(one.suffix == ".engine" for one in kept)
    stamps = {one: one.stat().st_mtime_ns for one in kept if one.suffix == ".engine"}
    with open_runner(f"{first}@ort-trt") as runner:
        np.testing.assert_allclose(runner(pictures(2)), wanted, atol=1e-5)
    assert {one: one.stat().st_mtime_ns for one in stamps} == stamps  # opened, not built again
    with open_runner(f"{second}@ort-trt") as runner:
        np.testing.assert_allclose(runner(pictures(2)), wanted, atol=1e-2, rtol=1e-2)
    folders = {one.parent for one in caches() if one.suffix == ".engine"}
    assert len(folders) == 2


def test_fp16_and_int8_answer(tmp_path):
    half = small_net(tmp_path / "h.onnx", kind=np.float16)
    with open_runner(f"{half}@ort-trt:fp16=1") as runner, open_runner(small_net(tmp_path / "n.onnx")) as reference:
        np.testing.assert_allclose(runner(pictures(4, kind=np.float16)), reference(pictures(4)), atol=0.05, rtol=0.05)
    integers = quantized_net(tmp_path / "q.onnx")
    with open_runner(f"{integers}@ort-trt:int8=1") as runner, open_runner(integers) as reference:
        np.testing.assert_allclose(runner(pictures(2)), reference(pictures(2)), atol=0.2, rtol=0.2)
