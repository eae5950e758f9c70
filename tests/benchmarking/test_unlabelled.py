"""Variants on images without labels, and on data of some of a network's classes only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploykit.commands.benchmark import BenchmarkResult, benchmark
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.reporting import read_report

QUICK = {"max_time_s": 0.5, "min_blocks": 5, "block_ms": 2.0, "until": 0.5, "end_to_end": False}


def measured(models: dict[str, Path], data: str, folder: Path) -> BenchmarkResult:
    specs = [f"{name}={path}" for name, path in models.items()]
    return benchmark(specs, folder, BenchmarkConfig(data=data, **QUICK))


@pytest.fixture(scope="module")
def models(trained_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A trained digit network, a copy of it, and one whose answers are partly others."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(trained_onnx)
    weight = [one for one in model.graph.initializer if len(one.dims) == 4][-1]
    noise = np.random.default_rng(0).normal(0, 0.6, tuple(weight.dims)).astype(np.float32)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + noise, weight.name))
    other = tmp_path_factory.mktemp("other") / "other.onnx"
    onnx.save(model, other)
    return {"fp32": trained_onnx, "copy": trained_onnx, "other": other}


def test_without_labels_changed_answers_stand_for_the_drop(
    models: dict[str, Path], digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    for number, image in enumerate(digits[0][:200]):
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
    result = measured(models, str(tmp_path / "images"), tmp_path / "run")
    report = read_report(tmp_path / "run")
    assert report == result.report
    assert report.task == "classify"
    found = {one.name: one for one in report.variants}
    n = report.data.n
    for variant in report.variants:
        assert variant.accuracy is None
        assert (variant.quality.metric, variant.quality.n, variant.quality.split) == ("agreement", n, "test")
        assert variant.measurements
    assert (found["fp32"].quality.value, found["fp32"].quality.drop_pt) == (1.0, None)
    assert (found["copy"].quality.value, found["copy"].quality.drop_pt) == (1.0, 0.0)
    assert found["copy"].quality.drop_pt_high == pytest.approx(100 * 3.84 / (n + 3.84), rel=0.01)  # Wilson's
    changed = found["other"].quality
    assert 0 < changed.value < 1
    assert changed.drop_pt == pytest.approx(100 * (1 - changed.value))
    assert changed.drop_pt_low < changed.drop_pt < changed.drop_pt_high
    assert "agreement" in result.summary()
    assert "Top-1" not in (tmp_path / "run" / "report.html").read_text()


def test_some_of_the_classes_are_told_on_every_page(
    models: dict[str, Path], digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    images, labels = digits
    few = labels < 4
    np.savez(tmp_path / "few.npz", images=images[few], labels=labels[few], classes=np.array([str(n) for n in range(4)]))
    result = measured({"fp32": models["fp32"]}, str(tmp_path / "few.npz"), tmp_path / "run")
    (fp32,) = result.report.variants
    assert (fp32.judged_among.classes, fp32.judged_among.of) == (["0", "1", "2", "3"], 10)
    said = "among 4 of the 10 classes only: 0, 1, 2, 3."
    for text in (result.summary(), *((tmp_path / "run" / name).read_text() for name in ("report.html", "report.md"))):
        assert said in text
