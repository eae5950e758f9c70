from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from deploykit.exporting.bisect import Pair, first_parting

TENSORS = {f"t{i}": np.random.default_rng(i).normal(size=(2, 4, 3)).astype(np.float32) for i in range(20)}
PAIRS = [Pair(name, name, f"layer{i}/Conv", "Conv", f"layer{i}") for i, name in enumerate(TENSORS)]


class Side:
    def __init__(self, changes: dict[str, np.ndarray] | None = None) -> None:
        self.tensors, self.largest = TENSORS | (changes or {}), 0

    def __call__(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        self.largest = max(self.largest, len(names))
        return {name: self.tensors[name] for name in names}


@pytest.mark.parametrize("planted", [0, 7, 8, 19])
def test_the_planted_layer_is_found_with_memory_bounded(planted: int) -> None:
    wrong = {f"t{i}": TENSORS[f"t{i}"] * 1.1 for i in range(planted, 20)}
    side = Side(wrong)
    found = first_parting(PAIRS, Side(), side, 80.0, chunk=4)
    assert found is not None
    assert found.node == f"layer{planted}/Conv"
    assert found.module == f"layer{planted}"
    assert found.snr_db == pytest.approx(20, abs=1e-3)
    assert found.before == (f"layer{planted - 1}/Conv" if planted else None)
    assert found.compared == planted + 1
    assert side.largest == 4
    assert f"they part at layer{planted}/Conv (Conv of module layer{planted}): 20.0 dB" in found.line()


def test_agreement_has_no_parting() -> None:
    assert first_parting(PAIRS, Side(), Side({"t3": TENSORS["t3"] * (1 + 1e-6)}), 80.0) is None


def test_nan_parts_and_says_so() -> None:
    found = first_parting(PAIRS, Side(), Side({"t5": TENSORS["t5"] * np.nan}), 10.0)
    assert found is not None
    assert found.nan
    assert "NaN or infinite numbers" in found.line()


def test_other_shapes_and_integers_are_passed_over() -> None:
    changed = {"t1": TENSORS["t1"][:, :2], "t2": TENSORS["t2"].astype(np.int64)}
    assert first_parting(PAIRS[:4], Side({"t2": changed["t2"]}), Side(changed), 80.0) is None
