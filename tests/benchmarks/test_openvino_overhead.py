"""What the OpenVINO runner costs over a bare request with its input set, and int8 there beside ONNX Runtime's."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.results import publish, table, told, where_measured
from tests.benchmarks.test_runner_overhead import CALLS, LIMIT_US, ROUNDS, _quickstart_onnx, _timed_us

pytestmark = pytest.mark.bench


def test_openvino_overhead(tmp_path):
    pytest.importorskip("openvino")
    from deploykit.engines import open_runner
    from deploykit.engines.openvino.compiled_model import compiled, library, read
    from deploykit.stats.paired import bootstrap_mean

    path = tmp_path / "net.onnx"
    _quickstart_onnx(path)
    x = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    request = compiled(read(path), [x.shape], {}, 1, path).create_infer_request()
    given = x.copy()  # the tensor does not keep it alive
    request.set_input_tensor(library().Tensor(given, shared_memory=True))
    with open_runner(f"{path}@openvino", threads=1) as runner, open_runner(path, threads=1) as ort:
        calls = {
            "bare infer()": request.infer,
            "runner(x)": lambda: runner(x),
            "runner.prebound(x)()": runner.prebound(x),
            "ONNX Runtime, prebound": ort.prebound(x),
        }
        for call in calls.values():
            for _ in range(200):
                call()
        np.testing.assert_array_equal(runner(x)[0], request.get_output_tensor(0).data[0])
        generator = np.random.default_rng(0)
        times = {name: np.empty(ROUNDS) for name in calls}
        for number in range(ROUNDS):
            for name in generator.permutation(list(calls)):
                times[name][number] = _timed_us(calls[name])
    rows = []
    for name, values in times.items():
        difference = values - times["bare infer()"]
        low, high = bootstrap_mean(np.clip(difference, *np.quantile(difference, [0.05, 0.95])), resamples=2000)
        overhead = float(np.median(difference))
        rows.append([name, f"{np.median(values):.1f}", f"{overhead:.2f}", f"{low:.2f} … {high:.2f}"])
        if name.startswith("runner"):
            assert overhead <= LIMIT_US
    where = where_measured("openvino", "onnxruntime-gpu", "numpy")
    text = "\n".join(
        [
            "# Overhead of the OpenVINO runner",
            "",
            f"The 32-pixel network of the quickstart, batch 1, 1 thread; {ROUNDS} interleaved rounds of {CALLS} calls; overhead is the",
            f"median of the paired differences, the interval a bootstrap of their winsorised mean. {told(where)}",
            "",
            table(["call", "p50 µs", "over bare, µs", "interval"], rows),
        ]
    )
    publish("openvino_overhead", {"limit_us": LIMIT_US, "rounds": ROUNDS, "calls": CALLS, **where, "rows": rows}, text)
