"""What only a GPU can show of TensorRT: ``make test-gpu`` on a machine with tensorrt or tensorrt_rtx."""

import importlib.util
import json

import numpy as np
import pytest

from deploykit.base.errors import BadInput, Unavailable
from deploykit.base.overrides import Stated
from deploykit.commands.build import build
from deploykit.commands.inspect import inspect
from deploykit.config.build import BuildConfig
from deploykit.engines import open_runner
from deploykit.engines.tensorrt import build as timing_cache
from deploykit.engines.tensorrt.cuda import Cuda
from deploykit.engines.tensorrt.hardware import gpu
from deploykit.engines.tensorrt.version import load
from tests.engines.gpu_memory import free_bytes
from tests.engines.onnx_for_tests import counting_net, pictures, quantized_net, small_net

pytestmark = pytest.mark.gpu
FLAVOURS = [
    pytest.param(
        target,
        marks=pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed"),
    )
    for target, package in (("tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt_rtx"))
]


@pytest.fixture(params=FLAVOURS)
def target(request):
    api = load(request.param)
    known = api.compute_capabilities()
    if known and gpu().compute_capability not in known:
        pytest.skip(f"{request.param} has no kernels for compute capability {gpu().compute_capability}")
    return request.param


def made(folder, target, source=None, **fields):
    source = source or small_net(folder / "n.onnx")
    config = BuildConfig(target=target, size=8, **fields)
    return build(source, folder / f"{source.stem}.engine", config).output


def test_answers_are_those_of_the_cpu_at_every_batch_of_two_profiles(tmp_path, target):
    path = made(tmp_path, target, profiles=("1:1:2", "4:8:16"))
    with open_runner(f"{tmp_path / 'n.onnx'}@ort-cpu") as reference, open_runner(path) as runner:
        for batch in (1, 2, 4, 16, 1, 8):
            x = pictures(batch)
            np.testing.assert_allclose(runner(x), reference(x), atol=1e-4, rtol=1e-4)
        assert len(runner.profiles) == 2
        with pytest.raises(BadInput, match="no profile of the engine takes the input"):
            runner(pictures(3))
        with pytest.raises(BadInput, match="no profile of the engine takes the input"):
            runner(pictures(17))


def test_pictures_are_fed_in_the_sizes_that_the_profiles_take(tmp_path, target):
    from deploykit.evaluation.compare_runners import parity_of

    path = made(tmp_path, target, profiles=("2:2:2", "4:8:16"))
    images = [np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8) for i in range(21)]
    with open_runner(f"{tmp_path / 'n.onnx'}@ort-cpu", stated=Stated((8, 8))) as reference, open_runner(path) as runner:
        assert runner.batch_ranges == ((2, 2, 2), (4, 8, 16))
        found = parity_of(reference, runner, images)
    assert found.ok
    assert [one["batch"] for one in found.to_dict()["by_batch"]] == [2, 8]


def test_graphs_are_recorded_once_per_shape_and_give_the_same(tmp_path, target):
    path = made(tmp_path, target)
    x = pictures(4)
    with open_runner(path) as runner, open_runner(f"{path}@{target}:cuda_graph=0") as plain:
        np.testing.assert_allclose(runner(x), plain(x), atol=1e-5)
        for _ in range(5):
            runner(x)
        told = runner.audit()
        assert told["cuda_graph"] is True
        assert plain.audit()["cuda_graph"] is False


def test_arrays_on_the_gpu_are_taken_through_dlpack(tmp_path, target):
    import torch

    x = pictures(4)
    with open_runner(made(tmp_path, target)) as runner:
        wanted = runner(x)
        np.testing.assert_allclose(runner(torch.from_numpy(x).cuda()), wanted, atol=1e-5)
        np.testing.assert_allclose(runner(torch.from_numpy(x)), wanted, atol=1e-5)
        with pytest.raises(BadInput, match="not contiguous"):
            runner(torch.from_numpy(x).cuda().to(memory_format=torch.channels_last))
        with pytest.raises(BadInput, match="wrong input"):
            runner(torch.from_numpy(x).cuda().half())


def test_an_output_whose_size_only_the_run_tells(tmp_path, target):
    if target == "tensorrt-rtx":
        pytest.skip("tensorrt-rtx has no NonZero")
    path = made(tmp_path, target, counting_net(tmp_path / "c.onnx"))
    with open_runner(f"{tmp_path / 'c.onnx'}@ort-cpu", stated=Stated((8, 8))) as reference, open_runner(path) as runner:
        nothing = -np.abs(pictures(2))
        for x in (pictures(1), nothing, pictures(4), pictures(2)):
            np.testing.assert_array_equal(runner(x), reference(x))
        assert runner(nothing).shape == (4, 0)


def test_nothing_leaks_over_ten_thousand_runs(tmp_path, target):
    cuda = Cuda(0)
    x = pictures(2)
    with open_runner(made(tmp_path, target)) as runner:
        for _ in range(100):
            runner(x)
        before = free_bytes(cuda)
        for _ in range(10_000):
            runner(x)
        assert before - free_bytes(cuda) < 1 << 22
    cuda.use()
    for _ in range(20):
        with open_runner(tmp_path / "n.engine") as runner:
            runner(x)
    cuda.use()
    assert before - free_bytes(cuda) < 1 << 26
    cuda.close()


def test_several_runners_in_one_process(tmp_path, target):
    path = made(tmp_path, target)
    x = pictures(2)
    with open_runner(path) as first, open_runner(path) as second:
        wanted = first(x)
        first.close()
        np.testing.assert_allclose(second(x), wanted, atol=1e-6)
        with pytest.raises(BadInput, match="is closed"):
            first(x)


def test_the_device_clock_agrees_with_the_host(tmp_path, target):
    import time

    with open_runner(made(tmp_path, target)) as runner:
        timed = runner.prebound_on_device(pictures(8))
        found = []
        for _ in range(50):
            start = time.perf_counter()
            inside = timed()
            found.append((inside, 1e3 * (time.perf_counter() - start)))
        device, host = np.median(found, axis=0)
        assert 0 < device <= host


def test_the_engine_is_audited(tmp_path, target):
    path = made(tmp_path, target, quantized_net(tmp_path / "q.onnx"), beside="none")
    with open_runner(path) as runner:
        told, layers = runner.audit(), runner.layers()
        times = runner.layer_times(pictures(8))
    assert told["layers"] == len(layers) > 0
    assert {"name", "precision", "tactic", "nodes"} <= set(layers[0])
    assert times
    found = inspect(path, times=True)
    assert "not_told" not in found.facts
    assert sum(row["share"] for row in found.layers) == pytest.approx(1, abs=0.01)
    assert found.facts["qdq_left"] is not None
    json.dumps(found.to_dict(), allow_nan=False)


def test_int8_is_compared_with_fp16(tmp_path, target):
    result = build(quantized_net(tmp_path / "q.onnx"), tmp_path / "q.engine", BuildConfig(target=target, size=8))
    beside = result.facts["beside"]
    assert set(beside["ms"]) == {"int8", "fp16"}
    assert beside["why"]


def test_the_fastest_of_several_builds_is_kept(tmp_path, target):
    path = made(tmp_path, target, builds=2)
    assert path.stat().st_size > 1000


def test_a_plan_of_another_gpu_is_refused_and_told_how_to_rebuild(tmp_path, target):
    path = made(tmp_path, target)
    manifest = path.with_name(path.name + ".manifest.json")
    fields = json.loads(manifest.read_text())
    fields["hardware"] = {
        "gpu": {**fields["hardware"]["gpu"], "name": "NVIDIA T4", "compute_capability": "7.5"},
        "compute_capabilities": ["7.5"],
    }
    manifest.write_text(json.dumps(fields))
    with pytest.raises(
        Unavailable, match=r"was built (?:on NVIDIA T4|for compute capability 7\.5).*Rebuild it: deploykit build"
    ):
        open_runner(path)


def test_the_timing_cache_is_kept(tmp_path, target):
    api = load(target)
    if not api.flavour.timing_cache:
        pytest.skip(f"{target} keeps no timing cache")
    made(tmp_path, target)
    assert timing_cache.cache_file(api, gpu()).stat().st_size > 0


def test_refit_and_stripped_plans_are_built_and_run(tmp_path, target):
    assert made(tmp_path, target, refit=True).stat().st_size > 1000
    whole = made(tmp_path, target, small_net(tmp_path / "w.onnx"))
    stripped = made(tmp_path, target, small_net(tmp_path / "s.onnx"), strip=True)
    assert stripped.stat().st_size <= whole.stat().st_size
    with open_runner(whole) as first, open_runner(stripped) as second:
        np.testing.assert_allclose(second(pictures(2)), first(pictures(2)), atol=1e-4)
    (tmp_path / "s.onnx").unlink()
    with pytest.raises(BadInput, match=r"s\.onnx, which holds the weights of .* is not there"):
        open_runner(stripped)


def test_a_version_compatible_plan_runs_where_its_runtime_is_allowed(tmp_path, target):
    if not load(target).flavour.lean_runtime:
        pytest.skip(f"{target} has no lean runtime")
    path = made(tmp_path, target, version_compatible=True)
    with pytest.raises(BadInput, match=r"brings a runtime of its own.*Pass --allow-code"):
        open_runner(path)
    with open_runner(path, allow_code=True) as runner:
        assert runner(pictures(2)).shape == (2, 4)


def test_a_bound_call_of_a_shape_that_is_gone_is_refused(tmp_path, target):
    with open_runner(made(tmp_path, target)) as runner:
        bound = runner.prebound(pictures(4))
        bound()
        runner(pictures(2))
        with pytest.raises(BadInput, match="Bind it again"):
            bound()


def test_sparse_weights_are_allowed(tmp_path, target):
    assert made(tmp_path, target, sparse=True).stat().st_size > 1000
