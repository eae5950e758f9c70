"""What variants are timed with: images that fill any engine's batch, random numbers of a graph's own shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploykit.base.overrides import Stated
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.spec import Spec
from deploykit.base.targets import ORT_CPU
from deploykit.engines import open_runner
from deploykit.latency.timed_input import ImageInput, RandomInput
from deploykit.latency.worker import Opener, open_timed
from deploykit.latency.workers import Worker
from tests.engines.onnx_for_tests import counting_net, pair_net, small_net

NAMED = {"right": (2, 3, 5, 12)}


def test_random_input_follows_the_number_of_images_where_the_graph_does(tmp_path: Path) -> None:
    free = RandomInput({}, 2, 0)
    with open_runner(small_net(tmp_path / "free.onnx"), threads=1) as runner:
        assert free.fixed_batch(runner) is None
        assert [(free.of(runner, n)[0]["input"].shape[0], free.of(runner, n)[1]) for n in (None, 1, 5)] == [
            (2, 1),
            (1, 1),
            (5, 1),
        ]
        named = RandomInput({"input": (3, 3, 8, 8)}, 1, 0)
        assert named.fixed_batch(runner) == 3
        assert named.of(runner, 8)[1] == 3
    with open_runner(small_net(tmp_path / "four.onnx", batch=4), threads=1) as runner:
        assert free.fixed_batch(runner) == 4
        assert free.of(runner, 8)[1] == 2
        assert free.of(runner, None)[1] == 1


def test_end_to_end_answers_every_output_and_none_is_no_fault(tmp_path: Path) -> None:
    with open_runner(pair_net(tmp_path / "pair.onnx"), threads=1) as runner:
        assert RandomInput(NAMED, 2, 0).end_to_end(runner)().shape == (2 * 4 + 2,)
    with open_runner(counting_net(tmp_path / "places.onnx"), threads=1, stated=Stated((8, 8))) as runner:
        assert RandomInput({"input": (1, 3, 8, 8)}, 1, 0).end_to_end(runner)().size == 4 * 3 * 8 * 8


def test_images_are_repeated_to_fill_a_batch(tmp_path: Path) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    source = ImageInput([image], Preprocessing((8, 8)))
    with open_runner(small_net(tmp_path / "four.onnx", batch=4), threads=1) as runner:
        x, runs = source.of(runner, 6)
        assert isinstance(x, np.ndarray)
        assert (x.shape, runs) == ((4, 3, 8, 8), 2)


@pytest.mark.parametrize("target", [ORT_CPU, "openvino"])
def test_a_worker_times_a_graph_of_several_inputs(tmp_path: Path, target: str) -> None:
    if target == "openvino":
        pytest.importorskip("openvino")
    spec = Spec("pair", pair_net(tmp_path / "pair.onnx"), target)
    with Worker("pair", Opener(open_timed, (spec, RandomInput(NAMED, 2, 0), {"threads": 1})), 1) as worker:
        assert worker.ready().get("fixed_batch") == 2
        for call in ("compute", "end_to_end", "compute/4"):
            assert (worker.block(call, 1.0).host > 0).all()
