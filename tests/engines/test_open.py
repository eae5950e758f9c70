"""What a target lacks is told without making anything for it."""

import pytest

from deploykit.engines import lacking
from deploykit.engines.onnxruntime import providers
from deploykit.engines.tensorrt.hardware import Gpu, gpu_or_none, refuse_unserved
from deploykit.engines.tensorrt.version import FLAVOURS, Api, load


def test_what_is_here_lacks_nothing():
    assert lacking("torch-eager") is None
    assert lacking("ort-cpu") is None
    assert lacking("openvino") is None


@pytest.mark.skipif(gpu_or_none() is not None, reason="there is a GPU here")
def test_a_provider_that_does_not_load_is_named():
    found = lacking("ort-cuda")
    assert found is not None
    assert "CUDAExecutionProvider does not load" in found.line()
    assert lacking("tensorrt-rtx") is None  # builds without a GPU


def test_a_gpu_that_the_library_does_not_serve_is_refused():
    api = load("tensorrt-rtx")
    known = api.compute_capabilities()
    assert "9.0" not in known
    with pytest.raises(Exception, match=r"no kernels for this GPU, NVIDIA H200, of compute capability 9\.0 .*8\.6"):
        refuse_unserved(api, Gpu(0, "NVIDIA H200", "9.0", 1 << 37, "13.0"))
    refuse_unserved(api, Gpu(0, "NVIDIA L4", "8.9", 1 << 34, "13.0"))
    refuse_unserved(api, Gpu(0, "of next year", "99.0", 1 << 34, "13.0"))  # newer ones may run portable plans
    refuse_unserved(api, None)
    refuse_unserved(Api(FLAVOURS["tensorrt"], object()), Gpu(0, "NVIDIA H200", "9.0", 1 << 37, "13.0"))


def test_packages_in_other_folders_do_not_break_the_one_in_use(tmp_path, monkeypatch):
    here = providers.packages()
    assert len(here) == 1
    for folder in (tmp_path / "early", tmp_path / "late"):
        meta = folder / "onnxruntime_openvino-1.0.dist-info"
        meta.mkdir(parents=True)
        (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-openvino\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path / "late"))
    assert providers.packages() == ["onnxruntime-openvino 1.0"]
    assert providers.two_packages() is None
    other = tmp_path / "late" / "onnxruntime_training-2.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-training\nVersion: 2.0\n")
    assert providers.two_packages() == (
        "onnxruntime-openvino 1.0 and onnxruntime-training 2.0 are installed into one folder and break each other: "
        "uninstall all, install one"
    )
