"""The parts of TensorRT's runner that need no GPU: DLPack, the inspector's words, who may open a plan."""

import ctypes
from dataclasses import asdict

import numpy as np
import pytest

from deploykit.base.artifact import Manifest, Parent
from deploykit.base.errors import BadInput, Unavailable
from deploykit.base.hashing import file_sha256
from deploykit.engines.dlpack import CPU, is_on_device, view
from deploykit.engines.tensorrt.audit import summarize
from deploykit.engines.tensorrt.hardware import Gpu
from deploykit.engines.tensorrt.plan_file import Header
from deploykit.engines.tensorrt.refit import weights_for
from deploykit.engines.tensorrt.runner import refuse_other_gpu, refuse_other_version
from deploykit.engines.tensorrt.version import FLAVOURS, Api

H200 = Gpu(0, "NVIDIA H200", "9.0", 1 << 37, "13.0")


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int64"])
def test_dlpack_is_read_without_a_library(dtype):
    x = np.arange(24).astype(dtype).reshape(2, 3, 4)
    seen = view(x)
    assert (seen.shape, seen.dtype, seen.device[0], seen.size) == (x.shape, dtype, CPU, x.nbytes)
    copied = np.frombuffer(ctypes.string_at(seen.place, seen.size), dtype).reshape(seen.shape)
    np.testing.assert_array_equal(copied, x)
    assert not is_on_device(x)


def test_dlpack_of_torch_and_its_types():
    import torch

    x = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    seen = view(x)
    assert (seen.shape, seen.dtype, seen.size, seen.place) == ((2, 3), "bfloat16", 12, x.data_ptr())
    assert view(x[1:]).place == x[1:].data_ptr()
    with pytest.raises(BadInput, match=r"not contiguous; got strides \[1, 3\]. Pass x.contiguous\(\)"):
        view(x.T)
    with pytest.raises(BadInput, match=r"cannot be read: .*require.*gradient.*Pass x.detach\(\)"):
        view(torch.zeros(2, requires_grad=True))
    with pytest.raises(BadInput, match="the device array's type"):
        view(torch.zeros(2, dtype=torch.complex64))


LAYERS_10 = [
    {
        "Name": "conv1 + relu1",
        "LayerType": "CaskConvolution",
        "ParameterType": "Convolution",
        "Inputs": [{"Name": "x", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
        "Outputs": [{"Name": "y", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
        "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32",
        "Metadata": "[ONNX Layer: conv1]\x1e[ONNX Layer: relu1]",
    },
    {
        "Name": "Reformatting CopyNode for Input Tensor 0 to conv1",
        "LayerType": "Reformat",
        "Inputs": [{"Name": "x", "Format/Datatype": "Row major linear FP32"}],
        "Outputs": [{"Name": "x8", "Format/Datatype": "Int8"}],
    },
]
LAYERS_11 = [
    {
        "Name": "conv2",
        "LayerType": "CaskConvolution",
        "Inputs": [{"Name": "x", "Format": "Channel major", "Datatype": "Half"}],
        "Outputs": [],
        "Metadata": "[ONNX Layer: conv2]",
    }
]


def test_the_inspectors_words_of_10_and_11_are_read():
    told = summarize([*LAYERS_10, *LAYERS_11])
    assert (told["convs"], told["int8_convs"], told["fp16_convs"]) == (2, 1, 1)
    assert (told["reformats"], told["fused"]) == (1, 1)
    first = told["layers"][0]
    assert (first["precision"], first["nodes"]) == ("int8", ["conv1", "relu1"])
    assert first["tactic"].startswith("sm80")


def test_a_plan_without_detail_tells_names_only():
    told = summarize(["conv1", "fc"])
    assert (told["convs"], told["layers"][0]["precision"]) == (0, "unknown")


def manifest(target="tensorrt", **fields):
    built = {"gpu": asdict(H200), "compute_capabilities": ["9.0"]}
    given = {"target": target, "hardware": built, "config": {}, **fields}
    return Manifest("engine", {}, "build", 1, **given)


def refused_gpu(found, written):
    refuse_other_gpu(found, written, "m.engine", "deploykit build m.onnx --target tensorrt")


def test_a_plan_runs_on_the_gpu_that_it_was_built_on():
    refused_gpu(H200, manifest())
    refused_gpu(H200, None)  # without a manifest the library decides
    h100 = Gpu(0, "NVIDIA H100", "9.0", 1, "13.0")
    message = r"was built on NVIDIA H200 \(compute capability 9.0\), and this is NVIDIA H100 \(9.0\). Rebuild it"
    with pytest.raises(Unavailable, match=message):
        refused_gpu(h100, manifest())
    refused_gpu(h100, manifest(config={"hardware_compatible": "same-compute-capability"}))
    blackwell = Gpu(0, "RTX 5090", "12.0", 1, "13.0")
    refused_gpu(blackwell, manifest(config={"hardware_compatible": "ampere-plus"}))
    with pytest.raises(Unavailable, match="was built on NVIDIA H200"):
        refused_gpu(blackwell, manifest(config={"hardware_compatible": "same-compute-capability"}))


def test_a_plan_for_named_capabilities_is_refused_elsewhere():
    ada = Gpu(0, "L4", "8.9", 1, "13.0")
    named = manifest("tensorrt-rtx", hardware={"gpu": None, "compute_capabilities": ["8.6", "12.0"]})
    with pytest.raises(
        Unavailable, match=r"for compute capability 8.6, 12.0, and this GPU, L4, has 8.9.*--compute-capability 8.9"
    ):
        refused_gpu(ada, named)
    refused_gpu(Gpu(0, "A10", "8.6", 1, "13.0"), named)
    refused_gpu(ada, manifest("tensorrt-rtx", hardware={"gpu": None, "compute_capabilities": "portable"}))


class Installed:
    __version__ = "11.4.0.106"


def refused_version(built, written):
    api = Api(FLAVOURS["tensorrt"], Installed)
    refuse_other_version(api, Header("tensorrt", built, ()), written, "m.engine", "deploykit build m.onnx")


def test_versions_that_fit_and_that_do_not():
    refused_version("11.4.0.99", None)
    with pytest.raises(BadInput, match=r"built with tensorrt 10.16.0.72, and 11.4.0.106 is installed. Rebuild it"):
        refused_version("10.16.0.72", manifest())
    refused_version("10.16.0.72", manifest(config={"version_compatible": True}))
    with pytest.raises(BadInput, match="built with tensorrt 12"):
        refused_version("12.0.0.1", manifest(config={"version_compatible": True}))


def test_the_memory_of_an_output_that_is_not_to_be_had_is_an_error_and_no_crash():
    trt = pytest.importorskip("tensorrt_rtx")
    from deploykit.engines.tensorrt.execution import _allocator

    class Full:
        freed: list[int] = []  # noqa: RUF012

        def allocate(self, size):
            if size > 100:
                raise Unavailable("the GPU has not enough free memory")
            return 4096

        def free(self, place):
            self.freed.append(place)

    allocator = _allocator(Api(FLAVOURS["tensorrt-rtx"], trt), Full())
    assert allocator.reallocate_output_async("y", 0, 100, 256, 0) == 4096
    assert allocator.reallocate_output("y", 0, 60, 256) == 4096  # there is room
    assert allocator.reallocate_output("y", 0, 200, 256) == 0
    assert "not enough free memory" in allocator.error.line()
    assert Full.freed == [4096]
    allocator.release()
    assert Full.freed == [4096]


def test_a_driver_that_lacks_a_call_is_too_old():
    from deploykit.engines.tensorrt.cuda import Cuda

    cuda = object.__new__(Cuda)
    cuda._library = ctypes.CDLL(None)  # a library, without CUDA's names
    with pytest.raises(Unavailable, match=r"is too old: it lacks cuGraphInstantiateWithFlags\. Update the driver"):
        cuda._do("cuGraphInstantiateWithFlags")


def test_the_weights_of_a_stripped_plan_are_those_it_was_built_from(tmp_path):
    plan, model = tmp_path / "m.engine", tmp_path / "m.onnx"
    model.write_bytes(b"weights")
    parents = (Parent("model", file_sha256(model), "m.onnx", "m"),)
    stripped = manifest(config={"strip": True}, parents=parents)
    assert weights_for(plan, None, None) is None
    assert weights_for(plan, manifest(parents=parents), None) is None
    assert weights_for(plan, stripped, None) == model
    assert weights_for(plan, stripped, str(model)) == model
    with pytest.raises(BadInput, match="were cast and not kept"):
        weights_for(plan, manifest(config={"strip": True}, parents=parents, facts={"cast": {"casts": 2}}), None)
    model.write_bytes(b"others")
    with pytest.raises(BadInput, match=r"m\.onnx, which holds the weights of .*m\.engine, has changed since"):
        weights_for(plan, stripped, None)
    model.unlink()
    with pytest.raises(BadInput, match=r"is not there. Copy both files together"):
        weights_for(plan, stripped, None)
