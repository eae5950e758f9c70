"""Options and caches of ONNX Runtime's GPU providers, as far as a machine without GPU can tell."""

import select
import subprocess
import sys

import onnx
import pytest

from deploykit.base.errors import BadInput
from deploykit.base.user_cache import cache_folder
from deploykit.engines import open_runner
from deploykit.engines.onnxruntime import tensorrt_options
from deploykit.engines.onnxruntime.io_binding import _graph
from deploykit.engines.onnxruntime.session import _explained, building
from deploykit.engines.onnxruntime.tensorrt_options import engine_folder, profile_options, provider_fields
from tests.engines.onnx_for_tests import small_net

H200 = {"name": "NVIDIA H200", "compute_capability": "9.0"}


def test_our_options_become_the_providers(tmp_path):
    path = small_net(tmp_path / "n.onnx")
    fields = provider_fields(path, {"fp16": "1", "level": "3", "workspace_mib": "2", "cuda_graph": "1"}, H200)
    assert fields["trt_fp16_enable"] == fields["trt_cuda_graph_enable"] == "1"
    assert fields["trt_builder_optimization_level"] == "3"
    assert fields["trt_max_workspace_size"] == str(2 << 20)
    assert fields["trt_engine_cache_enable"] == fields["trt_timing_cache_enable"] == "1"
    assert fields["trt_engine_cache_path"].startswith(str(cache_folder()))
    assert "trt_engine_cache_enable" not in provider_fields(path, {"cache": "0"}, H200)


def test_caches_are_never_shared_by_what_differs(tmp_path, monkeypatch):
    path, other = small_net(tmp_path / "n.onnx"), small_net(tmp_path / "m.onnx", size=16)
    first = engine_folder(path, {"fp16": "1"}, H200)
    assert engine_folder(path, {"fp16": "1"}, H200) == first
    different = [
        engine_folder(other, {"fp16": "1"}, H200),
        engine_folder(path, {"fp16": "0"}, H200),
        engine_folder(path, {"fp16": "1"}, {**H200, "name": "NVIDIA L4"}),
    ]
    monkeypatch.setattr(tensorrt_options, "_version", lambda name: "0.0")
    different.append(engine_folder(path, {"fp16": "1"}, H200))
    assert len({first, *different}) == 5


def test_one_process_at_a_time_builds_into_a_cache(tmp_path):
    path = small_net(tmp_path / "n.onnx")
    code = (
        "import sys; from pathlib import Path; from deploykit.engines.onnxruntime.session import building\n"
        "with building(Path(sys.argv[1]), 'ort-trt', {'fp16': sys.argv[2]}): print('in', flush=True); input()"
    )

    def start(fp16):
        command = [sys.executable, "-c", code, str(path), fp16]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with start("0") as first:
        assert first.stdout.readline() == "in\n"
        with start("0") as second, start("1") as other:
            assert other.stdout.readline() == "in\n"  # its cache is another
            other.communicate("\n", timeout=60)
            assert not select.select([second.stdout], [], [], 0.5)[0]
            first.communicate("\n", timeout=60)
            assert second.stdout.readline() == "in\n"
            second.communicate("\n", timeout=60)
    with building(path, "ort-trt", {"cache": "0"}), building(path, "ort-cpu", {}):
        pass


def test_profiles_of_the_provider(tmp_path):
    model = onnx.load(str(small_net(tmp_path / "n.onnx")))
    assert profile_options(model, []) == {}
    assert profile_options(model, ["1:2:4"])["profile_opt"] == "input:2x3x8x8"
    with pytest.raises(BadInput, match="takes one profile"):
        profile_options(model, ["1:2:4", "4:8:8"])
    with pytest.raises(BadInput, match=r"got 4:2:1; expected MIN:OPT:MAX"):
        profile_options(model, ["4:2:1"])
    free = onnx.load(str(small_net(tmp_path / "f.onnx", size="side")))
    with pytest.raises(BadInput, match="has dynamic dimensions besides the batch"):
        profile_options(free, ["1:2:4"])


def test_an_unknown_option_is_refused_with_the_nearest(tmp_path):
    path = small_net(tmp_path / "n.onnx")
    with pytest.raises(BadInput, match=r"ort-trt has no option 'levels'.*Did you mean 'level'"):
        open_runner(f"{path}@ort-trt:levels=3")
    with pytest.raises(BadInput, match="ort-cpu has no option 'cuda_graph'"):
        open_runner(f"{path}@ort-cpu:cuda_graph=1")


def test_a_graph_is_named_only_where_one_is_recorded():
    assert _graph(None) is None
    assert _graph(3).get_run_config_entry("gpu_graph_id") == "3"
    assert _graph(-1).get_run_config_entry("gpu_graph_id") == "-1"


def test_an_option_that_the_provider_refuses_is_told_with_its_reason(tmp_path):
    said = (  # recorded on an H200, onnxruntime-gpu 1.31.1
        "EP Error /onnxruntime_src/onnxruntime/core/providers/cuda/cuda_execution_provider_info.cc:63 static "
        "onnxruntime::CUDAExecutionProviderInfo onnxruntime::CUDAExecutionProviderInfo::FromProviderOptions(const "
        "onnxruntime::ProviderOptions&) [ONNXRuntimeError] : 1 : FAIL : provider_options_utils.h:187 Parse Failed to parse "
        'provider option "device_id": cuda_execution_provider_info.cc:71 operator() Invalid device ID: 99, must be between '
        "0 (inclusive) and 1 (exclusive)."
    )
    error = _explained(RuntimeError(said), small_net(tmp_path / "n.onnx"), "ort-cuda")
    assert isinstance(error, BadInput)
    assert error.line() == (
        "option device_id of ort-cuda: Invalid device ID: 99, must be between 0 (inclusive) and 1 (exclusive)"
    )
