"""``deploykit build`` from end to end: real files, real builds for TensorRT-RTX and ONNX Runtime on a machine without GPU."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import onnx
import pytest

from deploykit.base.artifact import read_manifest
from deploykit.base.errors import AnswerNo, BadInput, Unavailable
from deploykit.building.engine_graph import precision_of
from deploykit.building.fp16_beside import without_pairs
from deploykit.commands.build import build
from deploykit.commands.export import export
from deploykit.commands.inspect import inspect
from deploykit.commands.quantize import quantize
from deploykit.config.build import BuildConfig
from deploykit.config.quantize import QuantizeConfig
from deploykit.data import prepare
from deploykit.engines import open_runner
from deploykit.engines.onnxruntime.providers import missing_library
from deploykit.engines.tensorrt.fp8 import to_fp8
from deploykit.engines.tensorrt.hardware import gpu_or_none
from deploykit.engines.tensorrt.plan_file import read_header
from tests.engines.onnx_for_tests import one_node, quantized_net, small_net

pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx has wheels for Linux x86_64 and Windows only")
without_gpu = pytest.mark.skipif(gpu_or_none() is not None, reason="there is a GPU here")


def rtx(**fields):
    return BuildConfig(target="tensorrt-rtx", **fields)


@pytest.fixture(scope="module")
def exported(trained_model, tmp_path_factory):
    return export(trained_model, tmp_path_factory.mktemp("build") / "net.onnx").output


@pytest.fixture(scope="module")
def int8(exported):
    fields = {"data": "digits", "images": 32, "select_images": 32, "method": "minmax", "target": "tensorrt-rtx"}
    return quantize(exported, exported.with_name("net.int8.onnx"), QuantizeConfig(**fields)).output


@pytest.fixture(scope="module")
def engine(exported):
    return build(exported, None, rtx())


def test_the_engine_carries_what_the_model_knows(engine, exported):
    assert engine.output == exported.with_name("net.engine")
    manifest, source = read_manifest(engine.output), read_manifest(exported)
    assert (manifest.kind, manifest.target, manifest.precision) == ("engine", "tensorrt-rtx", "fp32")
    assert manifest.preprocessing == source.preprocessing
    assert manifest.classes == source.classes
    assert manifest.parents[0].sha256 == next(iter(source.files.values()))
    assert manifest.versions["tensorrt_rtx"] == manifest.facts["library"]["version"]
    assert manifest.facts["settings"]["profiles"][0]["input"]["max"] == [32, 3, 32, 32]
    assert manifest.hardware["gpu"] is None or manifest.hardware["gpu"]["compute_capability"]
    assert manifest.facts["network"]["convs"] > 5
    assert "full fp32; --precision tf32 allows TF32" in engine.summary()
    told = json.loads(json.dumps(engine.to_dict(), allow_nan=False))
    assert told["network"]["layers"] > 20
    text = json.dumps(told)
    assert str(exported.parent) not in text.replace(told["output"], "")
    assert os.uname().nodename not in text


def test_its_layers_are_attached_for_the_report(engine):
    from deploykit.base.artifact import attachments_path

    attached = json.loads(attachments_path(engine.output).read_text())
    text = json.dumps(attached)
    assert "Layers of the network" in text
    assert "convolution" in text


def test_the_same_build_is_not_done_twice_and_a_changed_option_is(engine, exported):
    assert build(exported, engine.output, rtx()).made is False
    assert "up to date" in build(exported, engine.output, rtx()).summary()
    assert build(exported, engine.output, rtx(level=1)).made is True
    assert build(exported, engine.output, rtx()).made is True


def test_an_engine_is_never_overwritten_when_it_is_not_ours(exported, tmp_path):
    other = tmp_path / "x.engine"
    other.write_bytes(b"mine")
    with pytest.raises(BadInput, match="was not made by deploykit"):
        build(exported, other, rtx())
    assert other.read_bytes() == b"mine"
    assert build(exported, other, rtx(), force=True).made


@without_gpu
def test_int8_is_built_with_fp16_beside_it_and_left_undecided_here(int8, exported):
    made = build(int8, None, rtx())
    facts = made.facts
    assert (facts["precision"], facts["float_precision"]) == ("int8", "fp32")
    assert facts["network"]["int8_convs"] == facts["network"]["convs"] > 5
    beside = facts["beside"]
    assert beside["made_from"] == "the float file that int8 was made from"
    assert (beside["pick"], beside["ms"]) == (None, None)
    assert beside["why"] == "undecided: there is no GPU here to time them"
    other = read_manifest(made.output.with_name(beside["file"]))
    assert (other.precision, other.facts["network"]["fp16_convs"]) == ("fp16", facts["network"]["convs"])
    assert build(int8, None, rtx()).made is False


def test_int8_with_fp16_rest(int8, tmp_path):
    made = build(int8, tmp_path / "m.engine", rtx(precision="fp16", beside="none"))
    assert (made.facts["precision"], made.facts["float_precision"]) == ("int8", "fp16")
    assert "int8 with fp16" in made.summary()
    assert made.facts["beside"] is None


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_float_file_is_cast_by_measured_ranges(exported, tmp_path, precision):
    options = rtx(precision=precision, data="digits", images=8)
    made = build(exported, tmp_path / "m.engine", options)
    assert made.facts["precision"] == precision
    assert set(made.facts["network"]["precisions"]) == {precision}
    assert made.facts["cast"]["images"] == 8
    assert made.facts["cast"]["snr_db"] > {"fp16": 40, "bf16": 25}[precision]
    assert [one.role for one in read_manifest(made.output).parents] == ["model", "data"]
    unmeasured = build(exported, tmp_path / "u.engine", rtx(precision=precision))
    assert any("activations were not measured" in note for note in unmeasured.facts["notes"])


def test_tf32_is_asked_for_and_stated(exported, tmp_path):
    made = build(exported, tmp_path / "m.engine", rtx(precision="tf32"))
    assert (made.facts["precision"], made.facts["settings"]["tf32"]) == ("tf32", True)


def test_fp8_comes_from_int8_over_the_same_ranges(int8, exported, tmp_path, digits):
    made = build(int8, tmp_path / "m.engine", rtx(precision="fp8", compute_capabilities=("8.9", "12.0")))
    network = made.facts["network"]
    assert (made.facts["precision"], network["fp8_convs"]) == ("fp8", network["convs"])
    assert read_header(made.output).capabilities == ("8.9", "12.0")
    with pytest.raises(AnswerNo, match=r"cannot build fp8 for a compute capability below 8\.9"):
        build(int8, tmp_path / "n.engine", rtx(precision="fp8", compute_capabilities=("8.6",)))
    proto, _ = to_fp8(onnx.load(str(int8)), "m", "tensorrt")
    onnx.checker.check_model(proto, full_check=True)
    path = tmp_path / "fp8.onnx"
    onnx.save(proto, str(path))
    # at level "all" ONNX Runtime makes an invalid graph of fp8 Q/DQ
    with open_runner(exported) as reference, open_runner(f"{path}@ort-cpu:optimization=basic") as runner:
        x = prepare(list(digits[0][:64]), reference.preprocessing)
        wanted, found = reference(x), runner(x)
    snr_db = 10 * np.log10(np.square(wanted).sum() / np.square(wanted - found).sum())
    assert snr_db > 15
    assert (wanted.argmax(1) == found.argmax(1)).mean() > 0.95


@pytest.mark.parametrize(
    ("fields", "flag"), [({"cuda_graph": True}, "cuda-graph"), ({"optimize": "basic"}, "optimize")]
)
def test_a_plan_refuses_options_of_onnx_runtime(exported, tmp_path, fields, flag):
    with pytest.raises(BadInput, match=rf"^tensorrt-rtx has no --{flag}\. Leave it away, or name another --target\."):
        build(exported, tmp_path / "m.engine", rtx(**fields))


def test_fp8_without_int8_is_refused(exported, tmp_path):
    with pytest.raises(AnswerNo, match=r"fp8 was asked for.*--precision fp8 then turns int8 into fp8"):
        build(exported, tmp_path / "m.engine", rtx(precision="fp8"))


def test_a_float_file_has_no_int8(exported, tmp_path):
    with pytest.raises(AnswerNo, match=r"int8 was asked for.*Quantize it first"):
        build(exported, tmp_path / "m.engine", rtx(precision="int8"))
    assert not (tmp_path / "m.engine").exists()
    made = build(exported, tmp_path / "m.engine", rtx(precision="int8", allow_fallback=True))
    assert made.facts["precision"] == "fp32"
    assert any("accepted by --allow-fallback" in note for note in made.facts["notes"])


def test_what_was_rounded_is_not_called_fp32(tmp_path):
    half = small_net(tmp_path / "h.onnx", kind=np.float16)
    with pytest.raises(BadInput, match="is in fp16 already; fp32 would not bring back"):
        build(half, None, rtx(precision="fp32"))
    assert build(half, None, rtx(precision="fp16")).facts["precision"] == "fp16"


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        ({"zero": 3}, r"has zero point 3; TensorRT takes 0 only"),
        ({"kind": np.uint8}, r"is uint8, which TensorRT"),
        ({"bias": True}, r"dequantizes an int32 bias, which TensorRT refuses"),
    ],
)
def test_qdq_of_another_dialect_is_refused_before_the_parser(tmp_path, breaks, message):
    path = quantized_net(tmp_path / "q.onnx", **breaks)
    with pytest.raises(BadInput, match=rf"not in the Q/DQ dialect of tensorrt-rtx.*{message}"):
        build(path, None, rtx())


@without_gpu
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"refit": True}, r"--refit of tensorrt-rtx needs a GPU, because it compiles and times kernels on it"),
        ({"strip": True}, r"--strip of tensorrt-rtx needs a GPU"),
        ({"builds": 3}, r"--builds of tensorrt-rtx needs a GPU, because it has to time the plans"),
    ],
)
def test_what_needs_a_gpu_is_unavailable_without_one(exported, tmp_path, fields, message):
    with pytest.raises(Unavailable, match=message):
        build(exported, tmp_path / "m.engine", rtx(**fields))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"version_compatible": True}, "has no lean runtime"),
        ({"hardware_compatible": "ampere-plus"}, "has no hardware compatibility levels"),
        ({"profiles": ("1:2",)}, "cannot read the profile"),
        ({"compute_capabilities": ("5.0",)}, "unknown compute capability"),
        ({"builds": 2, "strip": True}, "--builds times the plans, which --strip leaves without weights"),
    ],
)
def test_options_that_rtx_does_not_have(exported, tmp_path, fields, message):
    with pytest.raises(BadInput, match=message):
        build(exported, tmp_path / "m.engine", rtx(**fields))


def test_wrong_files_and_names(exported, trained_model, tmp_path):
    with pytest.raises(BadInput, match=r"is no ONNX file; got \.pt. Export it first"):
        build(trained_model, None, rtx())
    with pytest.raises(BadInput, match=r"a name that ends with \.engine"):
        build(exported, tmp_path / "m.onnx", rtx())
    with pytest.raises(BadInput, match="is the input"):
        build(exported, exported, BuildConfig(target="ort-cpu"))
    with pytest.raises(BadInput, match="torch-eager runs model files as they are"):
        build(exported, None, BuildConfig(target="torch-eager"))
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(exported.read_bytes()[:1000])
    with pytest.raises(BadInput, match=r"cut\.onnx"):
        build(cut, None, rtx())


def test_without_pairs_is_the_float_network(int8, exported, digits, tmp_path):
    stripped = without_pairs(onnx.load(str(int8)))
    onnx.checker.check_model(stripped, full_check=True)
    assert precision_of(stripped) == ("fp32", "fp32")
    assert not [node for node in stripped.graph.node if "quantize" in node.op_type.lower()]
    path = tmp_path / "s.onnx"
    onnx.save(stripped, str(path))
    with open_runner(exported) as reference, open_runner(path) as runner:
        x = prepare(list(digits[0][:32]), reference.preprocessing)
        wanted, found = reference(x), runner(x)
    assert 10 * np.log10(np.square(wanted).sum() / np.square(wanted - found).sum()) > 30


def test_sparse_says_whether_weights_have_the_pattern(exported, tmp_path):
    made = build(exported, tmp_path / "m.engine", rtx(sparse=True))
    assert any("so --sparse changes nothing: prune with --pattern 2:4 first" in note for note in made.facts["notes"])
    assert made.facts["settings"]["sparse_weights"] is True
    model = onnx.load(str(exported))
    for tensor in model.graph.initializer:
        weight = onnx.numpy_helper.to_array(tensor).copy()
        if weight.ndim == 4 and weight.shape[1] % 4 == 0:
            weight.reshape(weight.shape[0], -1, 4, *weight.shape[2:])[:, :, 2:] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(weight, tensor.name))
    onnx.save(model, str(tmp_path / "sparse.onnx"))
    made = build(tmp_path / "sparse.onnx", None, rtx(sparse=True))
    assert any("weights have the 2:4 pattern, which sparse kernels may use" in note for note in made.facts["notes"])


def test_inspect_tells_the_network_and_what_is_missing(engine):
    found = inspect(engine.output, layers=True)
    assert found.kind == "engine"
    assert found.facts["format"] == "tensorrt-rtx plan"
    assert found.facts["network_as_given_to_the_builder"]["convs"] > 5
    assert found.facts["parent"] == "net.onnx, unchanged"
    assert {"name", "type", "precision", "nodes"} <= set(found.layers[0])
    json.dumps(found.to_dict(), allow_nan=False)
    if gpu_or_none() is None:
        assert "does not open here: no NVIDIA driver is found" in found.summary()


def test_inspect_says_that_an_engine_is_stale(exported, tmp_path):
    source = tmp_path / "n.onnx"
    shutil.copy(exported, source)
    made = build(source, None, rtx()).output
    with source.open("ab") as file:
        file.write(b"\x00")
    assert "has changed since: the engine is stale" in inspect(made).facts["parent"]
    source.unlink()
    assert inspect(made).facts["parent"] == "n.onnx is not there any more"
    lone = tmp_path / "lone.engine"
    shutil.copy(made, lone)
    assert inspect(lone).facts["network"] == "not known: the plan has no manifest of deploykit"


# ONNX Runtime


def test_ort_cpu_is_opened_and_answers_the_same(exported, tmp_path, digits):
    made = build(exported, tmp_path / "m.onnx", BuildConfig(target="ort-cpu", optimize="basic"))
    assert made.facts["opened"] is True
    assert "optimized offline at level basic" in made.summary()
    manifest = read_manifest(made.output)
    assert (manifest.kind, manifest.target, manifest.facts["provider_options"]) == ("onnx", "ort-cpu", {})
    with open_runner(exported) as reference, open_runner(made.output) as runner:
        assert runner.classes == reference.classes
        x = prepare(list(digits[0][:8]), reference.preprocessing)
        np.testing.assert_allclose(runner(x), reference(x), atol=1e-4)
    assert build(exported, made.output, BuildConfig(target="ort-cpu", optimize="basic")).made is False


def test_openvino_takes_the_file_and_runs_it(exported, tmp_path, digits):
    pytest.importorskip("openvino")
    made = build(exported, tmp_path / "m.onnx", BuildConfig(target="openvino"))
    assert made.facts["opened"] is True
    with open_runner(exported) as reference, open_runner(made.output) as runner:
        assert runner.target == "openvino"
        x = prepare(list(digits[0][:8]), reference.preprocessing)
        np.testing.assert_allclose(runner(x), reference(x), atol=1e-3)


@pytest.mark.skipif(missing_library("CUDAExecutionProvider") is None, reason="the CUDA provider loads here")
def test_ort_cuda_really_falls_back_here_and_is_refused_with_the_missing_library(exported, tmp_path):
    made = build(exported, tmp_path / "m.onnx", BuildConfig(target="ort-cuda", cuda_graph=True))
    assert made.facts["provider_options"] == {"use_tf32": "0", "cuda_graph": "1"}
    assert made.facts["opened"] is False
    assert any("CUDAExecutionProvider does not load (lib" in note for note in made.facts["notes"])
    with pytest.raises(Unavailable, match=r"CUDAExecutionProvider does not load \(lib\S+"):
        open_runner(made.output)


@pytest.mark.skipif(missing_library("TensorrtExecutionProvider") is None, reason="the TensorRT provider loads here")
def test_ort_trt_names_the_tensorrt_that_its_provider_links(exported, tmp_path):
    made = build(
        exported, tmp_path / "m.onnx", BuildConfig(target="ort-trt", profiles=("1:4:8",), level=2, sparse=True)
    )
    options = made.facts["provider_options"]
    assert options["profile_max"] == "input:8x3x32x32"
    assert (options["level"], options["sparse"], options["int8"]) == ("2", "1", "0")
    with pytest.raises(
        Unavailable, match=r"links TensorRT 10 \(libnvinfer.so.10\) and does not take 11.*deploykit's own"
    ):
        open_runner(made.output)


@pytest.mark.parametrize(
    ("target", "fields", "flag"),
    [
        ("ort-cpu", {"refit": True}, "--refit"),
        ("ort-cpu", {"profiles": ("1:2:4",)}, "--profile"),
        ("ort-cuda", {"sparse": True}, "--sparse"),
        ("ort-trt", {"compute_capabilities": ("8.6",)}, "--compute-capabilities"),
        ("ort-cpu", {"cuda_graph": True}, "--cuda-graph"),
        ("ort-cpu", {"builds": 2}, "--builds"),
    ],
)
def test_no_option_is_dropped_in_silence(exported, target, fields, flag):
    with pytest.raises(BadInput, match=f"{target} has no {flag}"):
        build(exported, None, BuildConfig(target=target, **fields))


def test_a_dialect_for_another_target_is_refused(tmp_path):
    with pytest.raises(BadInput, match="not in the Q/DQ dialect of ort-trt"):
        build(quantized_net(tmp_path / "q.onnx", zero=3), None, BuildConfig(target="ort-trt"))


# processes

SCRIPT = """
import sys, time
from deploykit.base.progress import Silent
from deploykit.config.build import BuildConfig
from deploykit.commands.build import build
class Slow(Silent):
    def task(self, title, total=None, unit=""):
        class Bar:
            def __enter__(self): return self
            def __exit__(self, *_): pass
            def advance(self, n=1, **_):
                print("step", flush=True); time.sleep(float(sys.argv[3]))
        return Bar()
build(sys.argv[1], sys.argv[2], BuildConfig(target="tensorrt-rtx"), progress=Slow())
print("done", flush=True)
"""


def start(source, output, pause_s):
    command = [sys.executable, "-c", SCRIPT, str(source), str(output), str(pause_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_a_killed_build_leaves_nothing_and_does_not_block_the_next(exported, tmp_path):
    output = tmp_path / "m.engine"
    with start(exported, output, 0.2) as process:
        assert process.stdout.readline() == "step\n"
        process.send_signal(signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []
    assert build(exported, output, rtx()).made


def test_two_processes_building_one_engine_do_not_disturb_each_other(exported, tmp_path):
    output = tmp_path / "m.engine"
    with start(exported, output, 0.01) as first, start(exported, output, 0.01) as second:
        ends = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert all(end.endswith("done\n") for end in ends)
    assert sorted(end.count("step") > 0 for end in ends) == [False, True]  # the second found it made
    names = ["m.engine", "m.engine.attachments.json", "m.engine.manifest.json"]
    assert sorted(one.name for one in tmp_path.iterdir()) == names


def test_the_command_line_gives_the_code_and_one_object(exported, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "deploykit.cli.main", "build", str(exported), "--json", "--quiet"]
    fine = ["--target", "tensorrt-rtx", "-o", str(tmp_path / "m.engine"), "--compute-capability", "8.6"]
    done = subprocess.run([*command, *fine], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["schema"], told["settings"]["compute_capabilities"]) == ("deploykit.build/1", ["8.6"])
    wrong = [*command, "--target", "tensorrt-rtx", "-o", str(tmp_path / "n.engine"), "--profile", "8:4:2"]
    done = subprocess.run(wrong, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, json.loads(done.stdout)["status"]) == (2, "bad_input")
    assert "1 <= MIN <= OPT <= MAX" in done.stderr


def test_what_is_decided_is_said(int8, tmp_path, listening):
    build(int8, tmp_path / "m.engine", rtx(), progress=listening)
    assert any(message.startswith("fp16 beside int8: m.fp16.engine") for message in listening.said)


def test_a_file_that_does_not_open_leaves_nothing_behind(tmp_path):
    source = one_node(tmp_path / "own.onnx", "Foo", 1, "mine")
    for _ in range(2):  # a second time it must not count as made
        with pytest.raises(BadInput, match=r"own\.onnx has operators .*Foo \(node bad0\)"):
            build(source, None, BuildConfig(target="ort-cpu", size=8))
    assert [one.name for one in tmp_path.iterdir() if not one.name.endswith(".lock")] == ["own.onnx"]
