from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch.nn import functional as F

from deploykit.exporting.stand_ins import StandIns
from tests.exporting import resampling_nets
from tests.exporting.resampling_nets import SIZE
from tests.exporting.through_export import built, exported, nearness_db

NETS = "tests.exporting.resampling_nets"
FACTORIES = [
    name for name, made in vars(resampling_nets).items() if getattr(made, "__module__", "") == NETS and name.islower()
]

OF_LIKE_FORM = (
    "stride_beyond_kernel",
    "functional_max",
    "mean_with_padding",
    "own_divisor",
    "norm_pool",
    "random_slope",
)


@pytest.mark.parametrize("factory", FACTORIES)
def test_what_stands_in_answers_the_same(factory: str) -> None:
    net, x = built(f"{NETS}:{factory}"), torch.randn(3, 3, SIZE, SIZE)
    with torch.inference_mode():
        right = net(x)
        with StandIns(net, x):
            torch.testing.assert_close(net(x), right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("factory", [one for one in FACTORIES if one not in OF_LIKE_FORM])
def test_the_file_answers_as_pytorch(factory: str, tmp_path: Path) -> None:
    result = exported(f"{NETS}:{factory}", tmp_path, SIZE)
    assert nearness_db(f"{NETS}:{factory}", result, SIZE) >= 110
    assert result.facts["exporter"] == "dynamo"
    modules = {node.name.rpartition("/")[0] for node in onnx.load(result.output).graph.node}
    assert modules == {"", "stem", "layer", "head"}  # "": the activation and the flattening of the network's own code


def test_what_the_exporters_write_rightly_is_left() -> None:
    x = torch.randn(1, 2, 16, 16)

    class Noted(StandIns):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            other = self._table.get(func)
            assert other is None or other(*args, **(kwargs or {})) is None
            return func(*args, **(kwargs or {}))

    with Noted(None, x):
        F.max_pool2d(x, 3, 2, 1)
        F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        F.max_pool2d(x, 2, 5, ceil_mode=True, return_indices=True)
        F.avg_pool2d(x, 3, 2, 1, True)
        F.adaptive_max_pool2d(x, 4)
        F.interpolate(x, scale_factor=2.0, mode="bilinear")
        F.interpolate(x, size=(9, 9), mode="bilinear", antialias=True)
        F.conv_transpose2d(x, torch.randn(2, 3, 3, 3), stride=2, output_padding=1)
        F.rrelu(x, training=True)
