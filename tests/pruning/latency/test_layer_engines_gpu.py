"""Layers and networks timed on the GPU targets that this machine has."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploykit import models
from deploykit.base.preprocessing import Preprocessing
from deploykit.commands.prune import built_plan, prune
from deploykit.config.prune import PruneConfig
from deploykit.engines.open import lacking
from deploykit.pruning.latency.layer_times import measure_on
from deploykit.pruning.latency.table import LayerShape

pytestmark = pytest.mark.gpu


@pytest.fixture(params=["ort-cuda", "tensorrt", "tensorrt-rtx"])
def target(request: pytest.FixtureRequest) -> str:
    if (why := lacking(request.param)) is not None:
        pytest.skip(why.line())
    return str(request.param)


def test_a_wide_layer_takes_longer(target: str) -> None:
    shapes = [LayerShape(n, n, (3, 3), (1, 1), (1, 1), (1, 1), 1, (112, 112)) for n in (512, 32)]
    wide, narrow = measure_on(target, 1, build=built_plan)(shapes)
    assert wide > 4 * narrow


def test_the_measured_whole_holds_the_budget(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network whose kernels take longer than their launches, so that narrower is faster."""
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(tmp_path / "cache"))
    kwargs = {"depth": 8, "widths": [256, 256, 512], "stem_stride": 1}
    arch = models.Arch("deploykit", "resnet", kwargs | {"num_classes": 10})
    module = models.build(models.parse_arch("deploykit:resnet"), 10, kwargs=kwargs).eval()
    classes = [str(i) for i in range(10)]
    models.save_model(tmp_path / "net.pt", module, arch, Preprocessing((96, 96)), classes, lineage=[], samples=None)
    config = PruneConfig(latency=0.7, target=target)
    latency = prune(tmp_path / "net.pt", tmp_path / "small.pt", config).measured["latency"]
    assert latency["target"] == target
    assert latency["measured"] <= 0.7
