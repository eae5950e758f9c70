"""Benchmarks of real models with real worker processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deploykit.base.errors import BadInput, Unavailable
from deploykit.base.lineage import chain_of
from deploykit.commands.benchmark import benchmark
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.reporting import read_report

QUICK = {"max_time_s": 1.5, "min_blocks": 5, "block_ms": 3.0, "until": 0.3}


@pytest.fixture(scope="module")
def onnx_path(tiny_onnx) -> Path:
    return tiny_onnx


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model, onnx_path, digits_npz):
    """One benchmark of a good variant, a wrong one, one that this machine lacks and the reference."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(onnx_path)
    weight = next(one for one in model.graph.initializer if len(one.dims) == 4)
    values = numpy_helper.to_array(weight).copy()
    values[0] += 0.5
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    broken = onnx_path.with_name("broken.onnx")
    onnx.save(model, broken)
    folder = tmp_path_factory.mktemp("benchmark") / "run"
    specs = [f"eager={tiny_model}", f"fp32={onnx_path}", f"slow={onnx_path}@ort-cpu:optimization=none"]
    specs += [f"broken={broken}", f"cuda={onnx_path}@ort-cuda"]
    return benchmark(specs, folder, BenchmarkConfig(data=str(digits_npz), **QUICK)), folder


def _by_name(report):
    return {variant.name: variant for variant in report.variants}


def test_the_report_holds_every_part(run, onnx_path, tiny_model):
    result, folder = run
    report = read_report(folder)
    assert report == result.report
    assert report.baseline == "fp32"
    assert report.stop_reason in ("interval", "time limit")
    assert report.noise_floor_ratio >= 0
    assert report.data.n == 64
    found = _by_name(report)
    fp32, eager = found["fp32"], found["eager"]
    assert fp32.status == eager.status == "ok"
    assert fp32.parity.ok
    assert fp32.parity.reference == "eager"
    assert fp32.params == eager.params > 1000
    assert fp32.macs == eager.macs > fp32.params
    assert fp32.audit["memcpy_nodes"] == 0
    assert fp32.cold_start_ms > 0
    assert eager.peak_memory_bytes > fp32.peak_memory_bytes > 1e7
    assert [step.stage for step in fp32.steps] == ["export"]
    assert fp32.speedup is None
    assert eager.speedup.of.timed == "compute"
    assert {one.timed for one in fp32.measurements} == {"compute", "end_to_end"}
    assert (folder / fp32.artifact.path).resolve() == onnx_path.resolve()
    assert report.pareto
    assert report.pick.name in ("fp32", "slow", "eager")


def test_percentiles_are_those_of_the_stored_raw_samples(run):
    result, folder = run
    for one in _by_name(result.report)["fp32"].measurements:
        with np.load(folder / one.samples_file, allow_pickle=False) as file:
            samples, rounds = file["samples_ms"], file["round"]
        assert len(samples) == len(rounds) == one.n
        assert len(np.unique(rounds)) == one.blocks
        assert np.mean(samples <= one.p50_ms) >= 0.5
        assert one.p50_ms in samples
        assert one.p50_ms <= one.p90_ms <= one.p99_ms
        assert one.mean_ms == pytest.approx(samples.mean())


def test_logits_are_stored_and_agree_with_the_accuracy(run, digits_npz):
    result, folder = run
    accuracy = _by_name(result.report)["fp32"].accuracy
    with np.load(folder / accuracy.logits_file, allow_pickle=False) as file:
        logits, labels = file["logits"], file["labels"]
    assert np.mean(logits.argmax(1) == labels) == pytest.approx(accuracy.top1)


def test_a_variant_that_fails_parity_is_timed_and_marked_and_never_picked(run):
    result, folder = run
    broken = _by_name(result.report)["broken"]
    assert broken.status == "failed"
    assert "dB" in broken.reason
    assert broken.parity.split == broken.verdict.split == "train and select"
    assert broken.parity.n == 128
    assert {one.timed for one in broken.measurements} == {"compute", "end_to_end"}
    assert all((folder / one.samples_file).is_file() for one in broken.measurements)
    assert broken.speedup.low < broken.speedup.estimate < broken.speedup.high
    assert broken.accuracy.n == 64
    assert "broken (failed)" in result.summary()
    assert "broken (failed)" in (folder / "report.md").read_text()
    assert "broken" not in result.report.pareto
    assert result.report.pick.name != "broken"
    assert not result.ok
    assert result.to_dict()["failed"] == ["broken"]
    assert "broken failed: " in result.summary()


def test_what_this_machine_lacks_is_skipped_with_the_reason(run):
    from deploykit.engines.onnxruntime.providers import missing_library

    reason = missing_library("CUDAExecutionProvider")
    if reason is None:
        pytest.skip("the CUDA provider loads here")
    cuda = _by_name(run[0].report)["cuda"]
    assert cuda.status == "skipped"
    assert reason in cuda.reason


def test_nothing_half_written_is_left(run):
    _, folder = run
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "report.json",
        "report.json.manifest.json",
        "report.html",
        "report.md",
        "samples",
        "logits",
        "thumbnails",
    }
    text = (folder / "report.json").read_text()
    assert str(folder.parent) not in text
    json.loads(text, parse_constant=pytest.fail)


def test_it_replaces_its_own_report_but_no_other(run, tiny_model, digits_npz, tmp_path):
    config = BenchmarkConfig(data=str(digits_npz), end_to_end=False, **QUICK)
    folder = tmp_path / "again"
    one = benchmark([f"eager={tiny_model}"], folder, config)
    assert one.ok
    assert [m.timed for m in one.report.variants[0].measurements] == ["compute"]
    benchmark([f"eager={tiny_model}"], folder, config)
    (folder / "report.json").write_text("{}")
    with pytest.raises(BadInput, match="was modified since deploykit made it"):
        benchmark([f"eager={tiny_model}"], folder, config)


@pytest.mark.parametrize(
    ("artifacts", "baseline", "message"),
    [
        (["a={m}", "a={m}"], None, "two artifacts are called 'a'"),
        (["a={m}", "b={m}"], "c", "unknown baseline 'c'; expected one of a, b"),
        ([], None, "no artifact"),
        (["a=missing.pt"], None, r"missing\.pt does not exist"),
    ],
)
def test_wrong_names_are_refused_before_anything_runs(tiny_model, digits_npz, artifacts, baseline, message):
    config = BenchmarkConfig(data=str(digits_npz), baseline=baseline)
    with pytest.raises(BadInput, match=message):
        benchmark([one.format(m=tiny_model) for one in artifacts], None, config)


def test_a_name_with_a_slash_is_refused(tiny_model, digits_npz):
    from deploykit.base.spec import Spec

    with pytest.raises(BadInput, match=r"cannot be called '\.\./a'"):
        benchmark([Spec("../a", tiny_model)], None, BenchmarkConfig(data=str(digits_npz)))


def test_a_folder_that_cannot_be_written_is_refused_first(tiny_model, digits_npz, tmp_path):
    config = BenchmarkConfig(data=str(digits_npz))
    with pytest.raises(BadInput, match="does not exist"):
        benchmark([str(tiny_model)], tmp_path / "no" / "run", config)
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="it is a file"):
        benchmark([str(tiny_model)], tmp_path / "file", config)


def test_a_target_named_alone_that_this_machine_lacks_is_an_error(tiny_model, digits_npz, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    config = BenchmarkConfig(data=str(digits_npz), device="cpu")
    with pytest.raises(Unavailable, match="torch-compile cannot run here"):
        benchmark([f"{tiny_model}@torch-compile"], None, config)


def test_the_chain_is_followed_only_while_hashes_hold(onnx_path, tiny_model, tmp_path):
    assert chain_of(onnx_path).model == tiny_model
    assert chain_of(tiny_model).model == tiny_model
    import shutil

    from deploykit.base.artifact import manifest_path, read_manifest

    lone = tmp_path / "elsewhere" / onnx_path.name
    lone.parent.mkdir()
    shutil.copy(onnx_path, lone)
    shutil.copy(manifest_path(onnx_path), manifest_path(lone))
    chain = chain_of(lone)
    assert chain.model is None
    assert "is not there any more" in chain.notes[0]
    manifest = read_manifest(lone)
    assert manifest is not None
    there = lone.parent / str(manifest.parents[0].path)  # the model's place, from the copy's
    there.parent.mkdir(exist_ok=True)
    there.write_bytes(b"another file")
    assert "is not the file any more" in chain_of(lone).notes[0]
    lone.write_bytes(b"x")
    assert "was modified since export made it" in chain_of(lone).notes[0]


def test_a_variant_too_large_to_be_judged_is_its_own_failure(onnx_path, digits_npz, monkeypatch):
    from deploykit.evaluation import score

    collect = score.collect_logits

    def collecting(*args, name, **rest):
        if name == "big":
            raise MemoryError
        return collect(*args, name=name, **rest)

    monkeypatch.setattr(score, "collect_logits", collecting)
    config = BenchmarkConfig(data=str(digits_npz), end_to_end=False, images=16, **{**QUICK, "max_time_s": 0.5})
    result = benchmark([f"fp32={onnx_path}", f"big={onnx_path}"], None, config)
    found = _by_name(result.report)
    assert found["big"].status == "failed"
    assert "out of memory" in found["big"].reason
    assert found["fp32"].measurements


def test_nothing_is_written_among_files_of_the_user(onnx_path, image_folder):
    before = sorted(image_folder.rglob("*"))
    with pytest.raises(BadInput, match="holds files that deploykit did not make"):
        benchmark([str(onnx_path)], image_folder, BenchmarkConfig(**QUICK))
    assert sorted(image_folder.rglob("*")) == before
