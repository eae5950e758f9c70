"""Parsing and building for real, on a machine without GPU: TensorRT-RTX builds ahead of time."""

import importlib.util
import os
import signal
import threading
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploykit.base.errors import AnswerNo, BadInput, Unavailable
from deploykit.base.overrides import Stated
from deploykit.base.progress import SILENT, Silent
from deploykit.config.build import BuildConfig
from deploykit.engines import open_runner
from deploykit.engines.tensorrt import build as timing_cache
from deploykit.engines.tensorrt.build import build_plan, capabilities
from deploykit.engines.tensorrt.hardware import Gpu
from deploykit.engines.tensorrt.log import listening, logger
from deploykit.engines.tensorrt.network import check_precision, describe_network, stated
from deploykit.engines.tensorrt.parse import parse
from deploykit.engines.tensorrt.plan_file import diagnostics, read_header
from deploykit.engines.tensorrt.profiles import make_profiles
from deploykit.engines.tensorrt.version import load
from tests.engines.onnx_for_tests import counting_net, one_node, quantized_net, save, small_net

pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx has wheels for Linux x86_64 and Windows only")
H200 = Gpu(0, "NVIDIA H200", "9.0", 1 << 37, "13.0")


@pytest.fixture(scope="module")
def api():
    return load("tensorrt-rtx")


def built(api, path, progress=SILENT, **fields):
    config = BuildConfig(target="tensorrt-rtx", **fields)
    parsed = parse(api, path)
    profiles = make_profiles(config.profiles, parsed.inputs())
    return build_plan(api, parsed, profiles, config, gpu=None, timing_cache=None, progress=progress)


@pytest.mark.parametrize(
    ("named", "header"),
    [((), ("8.0", "8.6", "8.9", "12.0", "12.1")), (("8.6",), ("8.6",)), (("SM80", "8.9"), ("8.0", "8.9"))],
)
def test_plans_for_named_and_portable_capabilities_are_well_formed(api, tmp_path, named, header):
    plan = built(api, small_net(tmp_path / "n.onnx"), compute_capabilities=named)
    path = tmp_path / "n.engine"
    path.write_bytes(plan.content)
    found = read_header(path)
    assert (found.target, found.capabilities) == ("tensorrt-rtx", header)
    assert found.version == api.version
    runtime = api.trt.Runtime(logger(api))
    assert "MALFORMED_ENGINE" not in diagnostics(api, runtime, plan.content)
    assert "MALFORMED_ENGINE" in diagnostics(api, runtime, b"xxxx" * 64)


def test_settings_reach_the_builder(api, tmp_path):
    path = small_net(tmp_path / "n.onnx")
    said = built(
        api, path, level=5, workspace_mib=64, sparse=True, profiles=("1:1:1", "2:4:8"), precision="tf32"
    ).settings
    assert (said["level"], said["sparse_weights"], said["tf32"], said["workspace_mib"]) == (5, True, True, 64)
    assert [one["input"]["max"][0] for one in said["profiles"]] == [1, 8]
    assert built(api, path, level=0).settings["level"] == 0


def test_the_network_is_described_with_onnx_names_and_precision(api, tmp_path):
    parsed = parse(api, quantized_net(tmp_path / "q.onnx"))
    network = describe_network(api, parsed.network)
    assert (network["convs"], network["int8_convs"], network["quantize"], network["dequantize"]) == (1, 1, 1, 2)
    assert stated(network) == ("int8", "fp32")
    conv = next(row for row in network["layers"] if row["type"] == "CONVOLUTION")
    assert conv["nodes"] == ["conv"]
    assert [one["name"] for one in network["io"]] == ["input", "output"]
    parsed = parse(api, small_net(tmp_path / "h.onnx", kind=np.float16))
    network = describe_network(api, parsed.network)
    assert (network["fp16_convs"], network["int8_convs"], stated(network)) == (1, 0, ("fp16", "fp16"))


@pytest.mark.parametrize("wanted", ["fp16", "bf16", "int8", "fp8"])
def test_a_precision_that_is_not_there_is_refused_unless_fallback_is_allowed(api, tmp_path, wanted):
    network = describe_network(api, parse(api, small_net(tmp_path / "n.onnx")).network)
    with pytest.raises(
        AnswerNo, match=rf"{wanted} was asked for, and the network of m does not compute in it \(2 in fp32"
    ):
        check_precision(wanted, network, False, "m", "tensorrt-rtx")
    if wanted in ("int8", "fp8"):
        with pytest.raises(AnswerNo, match=r"Quantize it first: deploykit quantize --target tensorrt-rtx[.;]"):
            check_precision(wanted, network, False, "m", "tensorrt-rtx")
    assert "accepted by --allow-fallback" in check_precision(wanted, network, True, "m", "tensorrt-rtx")
    assert check_precision("fp32", network, False, "m", "tensorrt-rtx") is None
    assert check_precision("tf32", network, False, "m", "tensorrt-rtx") is None


@pytest.mark.parametrize(
    ("op", "message"),
    [
        ("Det", r"Det \(node bad0\) has no importer. Compute the determinant outside"),
        ("Bernoulli", r"Bernoulli \(node bad0\) has no importer. Sample outside the network"),
    ],
)
def test_an_unsupported_operator_is_named_with_its_node_and_a_way_around(api, tmp_path, op, message):
    with pytest.raises(BadInput, match=message):
        parse(api, one_node(tmp_path / "n.onnx", op))


def test_an_operator_without_a_kernel_is_named(api, tmp_path):
    with pytest.raises(BadInput, match=r"NonZero \(node places\) has no kernel in this library. Compute it outside"):
        parse(api, counting_net(tmp_path / "c.onnx"))


def test_every_unsupported_node_is_named_not_only_the_first(api, tmp_path):
    with pytest.raises(BadInput, match=r"node bad0\).*node bad1\).*node bad2\)"):
        parse(api, one_node(tmp_path / "n.onnx", "Bernoulli", 3))


def test_a_custom_operator_asks_for_its_plugin(api, tmp_path):
    with pytest.raises(BadInput, match=r"Foo \(node bad0\) is no ONNX operator that it knows.*load its plugin"):
        parse(api, one_node(tmp_path / "n.onnx", "Foo", domain="my.ops"))


def test_int64_weights_of_any_size_are_native(api, tmp_path):
    nodes = [
        helper.make_node("Cast", ["input"], ["i"], "in", to=TensorProto.INT64),
        helper.make_node("Add", ["i", "w"], ["a"], "add"),
        helper.make_node("Cast", ["a"], ["output"], "out", to=TensorProto.FLOAT),
    ]
    shape = ["batch", 3]
    weight = numpy_helper.from_array(np.array([2**40], np.int64), "w")
    ends = [(name, TensorProto.FLOAT, shape) for name in ("input", "output")]
    path = save(tmp_path / "i.onnx", nodes, [weight], *ends)
    network = describe_network(api, parse(api, path).network)
    assert "int64" in {row["precision"] for row in network["layers"]}
    assert len(built(api, path).content) > 1000


def test_fp32_for_turing_is_refused_in_our_words_and_fp16_is_built(api, tmp_path):
    with pytest.raises(AnswerNo, match=r"for compute capability 7.5: FP32 .*--precision fp16"):
        built(api, small_net(tmp_path / "n.onnx"), compute_capabilities=("7.5",))
    plan = built(api, small_net(tmp_path / "h.onnx", kind=np.float16), compute_capabilities=("7.5",))
    assert len(plan.content) > 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [("9.0", "unknown compute capability '9.0'.*8.6"), ("ada", "cannot read the compute capability 'ada'")],
)
def test_unknown_capabilities(api, text, message):
    with pytest.raises(BadInput, match=message):
        capabilities(api, BuildConfig(target="tensorrt-rtx", compute_capabilities=(text,)), None)


def test_the_gpu_at_hand_is_the_default_where_the_library_can_name_it(api):
    config = BuildConfig(target="tensorrt-rtx")
    ada = Gpu(0, "L4", "8.9", 1, "13.0")
    assert capabilities(api, config, ada) == ("8.9",)
    assert capabilities(api, config, H200) == ()  # it has no 9.0: portable
    assert capabilities(api, config.but(compute_capabilities=("portable",)), ada) == ()
    with pytest.raises(BadInput, match="portable stands alone"):
        capabilities(api, config.but(compute_capabilities=("portable", "8.6")), None)


class Interrupting(Silent):
    """Sends this process a Ctrl-C at the tenth step of the build."""

    def __init__(self):
        self.steps = 0

    def task(self, title, total=None, unit=""):
        outer = self

        class Bar:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

            def advance(self, n=1, **_):
                outer.steps += 1
                if outer.steps == 10:
                    os.kill(os.getpid(), signal.SIGINT)
                if outer.steps >= 10:
                    time.sleep(0.05)  # the build goes on until the interrupt has been seen

        return Bar()


def test_ctrl_c_ends_a_build_and_the_next_one_works(api, tmp_path):
    path = small_net(tmp_path / "n.onnx")
    progress = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        built(api, path, progress)
    seen = progress.steps
    assert 10 <= seen < 60  # a whole build has more
    time.sleep(0.3)
    assert progress.steps == seen  # nothing builds on
    assert len(built(api, path).content) > 1000


def test_the_builder_reports_its_steps(api, tmp_path):
    steps = []

    class Counting(Silent):
        def task(self, title, total=None, unit=""):
            class Bar:
                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    return None

                def advance(self, n=1, **_):
                    steps.append(title)

            return Bar()

    built(api, small_net(tmp_path / "n.onnx"), Counting())
    assert len(steps) > 20


def test_a_progress_that_fails_ends_the_build_and_not_the_process(api, tmp_path):
    class Failing(Interrupting):
        def task(self, title, total=None, unit=""):
            bar = super().task(title, total, unit)
            bar.advance = lambda n=1, **_: 1 / 0
            return bar

    with pytest.raises(ZeroDivisionError):
        built(api, small_net(tmp_path / "n.onnx"), Failing())


def test_one_logger_many_ears(api, tmp_path):
    assert logger(api) is logger(api)
    with listening() as outer, listening() as inner, pytest.raises(BadInput):
        parse(api, one_node(tmp_path / "n.onnx", "Det"))
    assert outer
    assert list(outer) == list(inner)
    with listening() as quiet:
        parse(api, small_net(tmp_path / "ok.onnx"))
    assert list(quiet) == []


def test_what_parser_and_plan_have_before_the_build_stays_in_memory(api, tmp_path):
    path = small_net(tmp_path / "n.onnx")
    parsed = parse(api, path)
    path.unlink()  # the weights were read
    config = BuildConfig(target="tensorrt-rtx")
    profiles = make_profiles((), parsed.inputs())
    plan = build_plan(api, parsed, profiles, config, gpu=None, timing_cache=None, progress=SILENT)
    assert len(plan.content) > 1000


def test_external_data_are_found_beside_the_file(api, tmp_path):
    path = small_net(tmp_path / "n.onnx")
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="n.data", size_threshold=0)
    assert (tmp_path / "n.data").stat().st_size > 0
    assert len(built(api, path).content) > 1000


def test_the_timing_cache_is_keyed_by_version_and_gpu(api, tmp_path):
    first = timing_cache.cache_file(api, H200)
    assert timing_cache.cache_file(api, H200) == first
    others = [Gpu(0, "NVIDIA H100", "9.0", 1, "13.0"), Gpu(0, "NVIDIA H200", "9.0", 1, "12.8")]
    assert len({first, *(timing_cache.cache_file(api, one) for one in others)}) == 3
    with timing_cache.shared(tmp_path / "t" / "timing.bin", SILENT) as content:
        assert content == b""
        timing_cache.keep(tmp_path / "t" / "timing.bin", b"measured")
    with timing_cache.shared(tmp_path / "t" / "timing.bin", SILENT) as content:
        assert content == b"measured"


def test_the_timing_cache_is_used_by_one_at_a_time(tmp_path):
    place, order = tmp_path / "timing.bin", []

    def use(name):
        with timing_cache.shared(place, SILENT) as content:
            order.append(("in", name))
            time.sleep(0.05)
            timing_cache.keep(place, content + name.encode())
            order.append(("out", name))

    threads = [threading.Thread(target=use, args=(name,)) for name in "ab"]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert [kind for kind, _ in order] == ["in", "out", "in", "out"]
    assert sorted(place.read_bytes()) == sorted(b"ab")


def no_gpu():
    from deploykit.engines.tensorrt.hardware import gpu_or_none

    return gpu_or_none() is None


@pytest.fixture(scope="module")
def plan_file(api, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    path = folder / "n.engine"
    path.write_bytes(built(api, small_net(folder / "n.onnx")).content)
    return path


@pytest.mark.skipif(not no_gpu(), reason="there is a GPU here")
def test_without_a_driver_a_plan_is_refused_with_the_reason(plan_file):
    with pytest.raises(Unavailable, match=r"no NVIDIA driver is found.*Install the NVIDIA driver"):
        open_runner(plan_file, stated=Stated((8, 8)))


def test_a_damaged_plan_is_bad_input_even_without_a_gpu(plan_file, tmp_path):
    cut = tmp_path / "cut.engine"
    cut.write_bytes(plan_file.read_bytes()[:5000])
    with pytest.raises(BadInput, match=r"is truncated; got 5000 bytes; expected \d+"):
        open_runner(cut)
    cut.write_bytes(plan_file.read_bytes()[:40])
    with pytest.raises(BadInput, match="is truncated; got 40 bytes"):
        open_runner(cut)
    cut.write_bytes(b"no plan at all" * 10)
    with pytest.raises(BadInput, match=r"is no TensorRT plan; got b'no p'"):
        open_runner(cut)


def test_a_plan_of_another_version_or_library_is_refused_and_told_how_to_rebuild(plan_file, tmp_path):
    content = bytearray(plan_file.read_bytes())
    content[24:28] = bytes((1, 2, 0, 54))
    other = tmp_path / "old.engine"
    other.write_bytes(content)
    with pytest.raises(
        BadInput, match=r"built with tensorrt_rtx 1.2.0.54, and 1\.\S+ is installed. Rebuild it: deploykit build"
    ):
        open_runner(other)
    with pytest.raises(BadInput, match=r"is a plan of tensorrt-rtx; expected tensorrt. Open it as"):
        open_runner(f"{plan_file}@tensorrt")


def test_the_wrong_file_for_the_target(plan_file, tmp_path):
    with pytest.raises(BadInput, match=r"Build it first: deploykit build .* --target tensorrt-rtx"):
        open_runner(f"{small_net(tmp_path / 'n.onnx')}@tensorrt-rtx")
    with pytest.raises(BadInput, match=r"ort-cpu cannot run .*\.engine@tensorrt-rtx"):
        open_runner(f"{plan_file}@ort-cpu")
    with pytest.raises(BadInput, match="tensorrt-rtx runs on a GPU only"):
        open_runner(plan_file, device="cpu")
    with pytest.raises(BadInput, match="option device"):
        open_runner(f"{plan_file}@tensorrt-rtx:device=first")


def test_a_missing_library_is_named_with_what_brings_it():
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("tensorrt is installed")
    with pytest.raises(
        Unavailable, match=r"the Python package tensorrt is not installed. pip install 'deploykit\[trt\]'"
    ):
        load("tensorrt")


def test_a_weight_of_a_type_without_import_is_named(api, tmp_path):
    nodes = [
        helper.make_node("BitShift", ["bits", "one"], ["shifted"], name="bs", direction="LEFT"),
        helper.make_node("Cast", ["shifted"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["input", "number"], ["output"]),
    ]
    stored = [numpy_helper.from_array(np.array([1], np.uint32), name) for name in ("bits", "one")]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("input", "output")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], stored)
    path = tmp_path / "n.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    message = r"n\.onnx: the weight 'bits' has a type that it does not hold\. Convert it to float32, .*export again\."
    with pytest.raises(BadInput, match=message) as caught:
        parse(api, path)
    assert "node -1" not in caught.value.line()


def test_integer_operators_are_to_be_quantized_again_for_the_target_in_use(api, tmp_path):
    with pytest.raises(BadInput, match=r"ConvInteger .*quantize --target tensorrt-rtx"):
        parse(api, one_node(tmp_path / "n.onnx", "ConvInteger"))
