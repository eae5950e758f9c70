"""Engines that take some batch sizes only, as TensorRT's profiles do: what feeds them keeps to these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.base.errors import BadInput
from deploykit.base.runner import fed_batch
from deploykit.data import open_data
from deploykit.engines import open_runner
from deploykit.evaluation.compare_runners import parity_of, usable_batches
from deploykit.evaluation.run_classifier import collect_logits
from tests.listening import Listening

RANGES = ((4, 8, 16), (32, 32, 64))


class Profiled:
    """A real engine of ONNX Runtime that refuses what no profile takes."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.batch_ranges = inner, RANGES
        self.seen: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def best_shapes(self) -> dict[str, tuple[int, ...]]:
        given = self._inner.inputs[0]
        return {given.name: (self.batch_ranges[0][1], *given.shape[1:])}

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.run_all(x)[self._inner.outputs[0].name]

    def run_all(self, x: np.ndarray) -> dict[str, np.ndarray]:
        self.seen.append(len(x))
        if not any(low <= len(x) <= high for low, _, high in self.batch_ranges):
            raise BadInput("no profile of the engine takes the input", got=len(x))
        return self._inner.run_all(x)


@pytest.mark.parametrize(("wanted", "fed"), [(1, 4), (8, 8), (20, 16), (28, 32), (64, 64), (256, 64)])
def test_the_nearest_size_that_a_profile_takes_is_fed(tiny_onnx: Path, wanted: int, fed: int) -> None:
    with open_runner(tiny_onnx, threads=1) as inner:
        assert fed_batch(Profiled(inner), wanted) == fed  # type: ignore[arg-type]
        assert fed_batch(inner, wanted) is None


def test_accuracy_is_the_same_and_the_last_call_is_filled_up(tiny_onnx: Path) -> None:
    split = open_data("digits").split("test")
    with open_runner(tiny_onnx, threads=1) as inner:
        runner = Profiled(inner)
        expected = collect_logits(inner, split, 64, limit=150)
        np.testing.assert_allclose(collect_logits(runner, split, 20, limit=150), expected, atol=1e-5)  # type: ignore[arg-type]
        assert set(runner.seen) == {16}


def test_parity_is_judged_at_what_each_profile_takes_and_serves_best(tiny_onnx: Path, listening: Listening) -> None:
    images = [open_data("digits").split("test").image(i) for i in range(40)]
    with open_runner(tiny_onnx, threads=1) as inner:
        runner = Profiled(inner)
        assert usable_batches((1, 2, 8), runner, listening) == (8, 32)  # type: ignore[arg-type]
        assert listening.said == ["batch sizes [1, 2] are not compared: no profile of the engine takes them"]
        found = parity_of(inner, runner, images)  # type: ignore[arg-type]
        assert found.ok
        assert [one["batch"] for one in found.to_dict()["by_batch"]] == [8, 32]
        assert set(runner.seen) == {8, 32}
