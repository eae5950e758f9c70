"""Judging saved logits again, and the pictures and corrupted pictures of an evaluation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from deploykit.base.errors import BadInput
from deploykit.commands.evaluate import evaluate
from deploykit.config.evaluate import EvaluateConfig
from deploykit.reporting import read_report


@pytest.fixture(scope="module")
def worse(tiny_model, tmp_path_factory) -> Path:
    """The tiny model with a shaken last layer: some of its answers differ."""
    import torch

    from deploykit.models import load_model, save_model

    loaded = load_model(tiny_model)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loaded.module.fc.weight += 0.35 * torch.randn_like(loaded.module.fc.weight)
    path = tmp_path_factory.mktemp("worse") / "worse.pt"
    save_model(path, loaded.module, loaded.arch, loaded.preprocessing, loaded.classes, lineage=[], samples=None)
    return path


@pytest.fixture(scope="module")
def folder(tiny_model, worse, digits_npz, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("rejudge") / "run"
    config = EvaluateConfig(data=str(digits_npz), corruptions=True, corruption_images=16)
    evaluate([f"good={tiny_model}", f"worse={worse}"], place, config)
    return place


def _by_name(report: dict) -> dict:
    return {one.name: one.accuracy for one in report.variants}


def test_flips_are_counted_named_and_pictured(folder: Path) -> None:
    worse = _by_name(read_report(folder))["worse"]
    assert 0 < len(worse.flips) == round(worse.negative_flips * worse.n) < 25
    assert sum(map(sum, worse.confusion)) == worse.n
    with np.load(folder / worse.logits_file) as file:
        logits, labels = file["logits"], file["labels"]
    for flip in worse.flips:
        assert flip.label == flip.base == str(labels[flip.image])
        assert flip.predicted == str(logits[flip.image].argmax())
        picture = (folder / flip.picture).read_bytes()
        assert picture[:3] == b"\xff\xd8\xff"
        assert len(picture) <= 4096
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == len(worse.flips)


def test_corrupted_pictures_are_judged_beside_the_baseline(folder: Path) -> None:
    found = _by_name(read_report(folder))
    for name in ("good", "worse"):
        rows = found[name].robustness
        assert [(one.corruption, one.strength) for one in rows] == [
            (kind, strength) for kind in ("noise", "blur", "brightness", "jpeg") for strength in (1, 2, 3)
        ]
        assert all(one.n == 16 and one.top1_low <= one.top1 <= one.top1_high for one in rows)
    assert all(one.drop_pt is None for one in found["good"].robustness)
    for good, worse in zip(found["good"].robustness, found["worse"].robustness, strict=True):
        assert worse.drop_pt == pytest.approx(100 * (good.top1 - worse.top1))
    assert "On corrupted images" in (folder / "report.html").read_text(encoding="utf-8")


def test_the_same_judgement_again_is_the_same(folder: Path) -> None:
    report = evaluate([str(folder)], None).report
    before, now = _by_name(read_report(folder)), _by_name(report)
    for name in before:
        assert now[name] == before[name]


def test_another_baseline_and_level_need_no_model(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    result = evaluate([str(copy)], tmp_path / "again", EvaluateConfig(baseline="worse", ci_level=0.8))
    before, now = _by_name(read_report(folder)), _by_name(read_report(tmp_path / "again"))
    assert result.report.baseline == "worse"
    assert now["good"].drop_pt == pytest.approx(-before["worse"].drop_pt)
    assert now["good"].agreement == before["worse"].agreement
    assert now["worse"].drop_pt is None
    assert before["good"].top1_low < now["good"].top1_low < now["good"].top1
    assert now["worse"].robustness[0].drop_pt is None
    assert (tmp_path / "again" / now["good"].logits_file).is_file()
    evaluate([str(tmp_path / "again")], None)  # and the result can be judged again


def test_logits_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    report = json.loads((copy / "report.json").read_text())
    report["data"]["sha256"] = "0" * 64
    (copy / "report.json").write_text(json.dumps(report))
    with pytest.raises(BadInput, match="are of other data than the report"):
        evaluate([str(copy)], None)
    shutil.copy(folder / "report.json", copy / "report.json")
    (copy / "logits" / "worse.npz").write_bytes(b"torn")
    with pytest.raises(BadInput, match="holds no logits we can read"):
        evaluate([str(copy)], None)
    with pytest.raises(BadInput, match="unknown baseline 'other'"):
        evaluate([str(folder)], None, EvaluateConfig(baseline="other"))
    with pytest.raises(BadInput, match="which need inference"):
        evaluate([str(folder)], None, EvaluateConfig(data="digits"))


def test_speed_ups_over_another_baseline_come_from_the_raw_samples(tiny_onnx, digits_npz, tmp_path: Path) -> None:
    from deploykit.commands.benchmark import benchmark
    from deploykit.config.benchmark import BenchmarkConfig

    config = BenchmarkConfig(
        data=str(digits_npz), max_time_s=0.5, min_blocks=5, block_ms=2, until=0.9, end_to_end=False, images=16
    )
    benchmark([f"a={tiny_onnx}", f"b={tiny_onnx}@ort-cpu:optimization=none"], tmp_path / "run", config)
    before = read_report(tmp_path / "run")
    now = evaluate([str(tmp_path / "run")], None, EvaluateConfig(baseline="b")).report
    was, turned = before.variants[1].speedup, now.variants[0].speedup
    assert turned.estimate == pytest.approx(1 / was.estimate)
    assert now.variants[1].speedup is None
    assert now.variants[0].measurements == before.variants[0].measurements
