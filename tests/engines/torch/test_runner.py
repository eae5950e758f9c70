"""The PyTorch runner, and what chooses an engine."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit.base.errors import AnswerNo, BadInput, Unavailable
from deploykit.engines import open_runner, resolve


def _x(n=3):
    return np.random.default_rng(0).normal(size=(n, 3, 32, 32)).astype(np.float32)


def test_eager_is_the_module_itself(tiny_model):
    import torch

    with open_runner(tiny_model, threads=1) as runner:
        with torch.no_grad():
            expected = runner.loaded.module(torch.from_numpy(_x())).numpy()
        np.testing.assert_array_equal(runner(_x()), expected)
        assert runner.outputs[0].shape == ("batch", 10)
        assert runner.outputs[0].layout == "NC"
        assert runner.inputs[0].shape == ("batch", 3, 32, 32)
        runner.prebound(_x())()


def test_a_read_only_input_is_taken(tiny_model):
    x = _x()
    x.flags.writeable = False
    with open_runner(tiny_model, threads=1) as runner:
        assert runner(x).shape == (3, 10)


def test_channels_last_agrees(tiny_model):
    with open_runner(f"{tiny_model}@torch-eager:channels_last=1", threads=1) as last, open_runner(tiny_model) as eager:
        np.testing.assert_allclose(last(_x()), eager(_x()), atol=1e-4)
        assert last.audit()["channels_last"]


def test_wrong_input_is_refused(tiny_model):
    with open_runner(tiny_model, threads=1) as runner:
        with pytest.raises(BadInput, match="got float64"):
            runner(_x().astype(np.float64))
        runner.close()
        with pytest.raises(BadInput, match="is closed"):
            runner(_x())


def test_a_module_that_cannot_run_answers_no(tiny_model):
    with open_runner(tiny_model, threads=1) as runner:
        runner._module = lambda x: (_ for _ in ()).throw(RuntimeError("planted"))
        with pytest.raises(AnswerNo, match=r"does not run an input of shape \[3, 3, 32, 32\]: planted"):
            runner(_x())


def test_compile_without_a_compiler_says_what_is_missing(tiny_model, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(Unavailable, match=r"torch-compile cannot run here: no C\+\+ compiler.*apt-get install g\+\+"):
        open_runner(f"{tiny_model}@torch-compile", device="cpu")


@pytest.mark.slow
def test_compiled_agrees_with_eager(tiny_model):
    from deploykit.engines.torch.compile import missing_for_compile

    if (missing := missing_for_compile("cpu")) is not None:
        pytest.skip(missing[0])
    with (
        open_runner(f"{tiny_model}@torch-compile", threads=1, device="cpu") as compiled,
        open_runner(tiny_model, threads=1, device="cpu") as eager,
    ):
        np.testing.assert_allclose(compiled(_x()), eager(_x()), atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("target", ["torch-eager", "torch-compile"])
def test_a_gpu_agrees_with_the_cpu(tiny_model, target):
    with open_runner(f"{tiny_model}@{target}", device="cuda") as gpu, open_runner(tiny_model, device="cpu") as cpu:
        assert gpu.device == "cuda"
        np.testing.assert_allclose(gpu(_x()), cpu(_x()), atol=1e-3)
        gpu.prebound(_x())()


def test_cuda_where_there_is_none_is_an_error(tiny_model):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(Unavailable, match=r"torch-eager cannot run on cuda here.*Use --device cpu"):
        open_runner(tiny_model, device="cuda")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("missing.pt", r"missing\.pt does not exist"),
        (".", "is a folder"),
        ("x.onnx@torch-eager", r"torch-eager cannot run .*x\.onnx"),
        ("x.pt@ort-cpu", "ort-cpu cannot run .* Export it first: deploykit export"),
        ("x.txt", "cannot tell what runs"),
        ("x.pt@torch-egaer", "unknown target 'torch-egaer'.*Did you mean 'torch-eager'"),
    ],
)
def test_wrong_names_are_refused(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    for name in ("x.onnx", "x.pt", "x.txt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(BadInput, match=message):
        open_runner(text)


@pytest.mark.parametrize(("option", "value"), [("threads", 0), ("device", "tpu")])
def test_wrong_arguments_are_refused(tiny_model, option, value):
    with pytest.raises(BadInput, match=option):
        open_runner(tiny_model, **{option: value})


def test_the_natural_target_is_filled_in(tiny_model):
    assert resolve(tiny_model).target == "torch-eager"


def test_a_graph_asked_to_run_on_a_gpu_does_not_quietly_run_on_the_cpu(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"x")
    assert [resolve(path, device).target for device in ("auto", "cpu", "cuda")] == ["ort-cpu", "ort-cpu", "ort-cuda"]
    assert resolve(f"{path}@ort-cpu", "cuda").target == "ort-cpu"
