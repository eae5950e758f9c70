"""One key: what a stage says of its artifact before the work, what the manifest says after, and where the store keeps it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploykit.base.artifact import manifest_path, read_manifest, safe_name
from deploykit.base.targets import ON_ONNX, WITH_BUILDER
from deploykit.commands import build, distill, export, prune, quantize, stage, train
from deploykit.config.build import BuildConfig
from deploykit.config.distill import DistillConfig
from deploykit.config.export import ExportConfig
from deploykit.config.prune import PruneConfig
from deploykit.config.quantize import QuantizeConfig
from deploykit.config.run import RunConfig
from deploykit.config.train import TrainConfig
from deploykit.pipeline import run, stages
from deploykit.pipeline.stages import place_of

RECIPE = """\
version: 1
name: keys
data: {data}
model: {{arch: deploykit:resnet, kwargs: {{depth: 8, widths: [8, 8, 16], stem_stride: 2}}}}
train: {{epochs: 1, threads: 1, batch: 32}}
variants:
  fp32: {{target: ort-cpu}}
  small:
    target: ort-cpu
    steps: [{{prune: {{macs: 0.6, images: 16}}}}, {{distill: {{epochs: 1, threads: 1, batch: 32}}}}]
  half: {{target: openvino, precision: fp16, steps: [{{export: {{images: 16}}}}]}}
  int8: {{target: ort-cpu, steps: [{{quantize: {{images: 16, select_images: 16, method: minmax, force_int8: true}}}}]}}
  qat:
    target: ort-cpu
    steps: [{{quantize: {{method: qat, images: 16, select_images: 16, qat_epochs: 1, force_int8: true}}}}]
  engine: {{target: tensorrt-rtx}}
benchmark: {{images: 20, max_time_s: 0.5, min_blocks: 2, block_ms: 2, end_to_end: false}}
"""
CASES: list[tuple[str, str, dict[str, Any], tuple[str, ...]]] = [
    ("train", "", {"config": TrainConfig(data="digits")}, train.STAGE.libraries),
    ("prune", "pt", {"config": PruneConfig(macs=0.5, data="digits")}, prune.STAGE.libraries),
    ("distill", "pt", {"config": DistillConfig(data="digits", teachers=("net.pt",))}, distill.STAGE.libraries),
    ("export", "pt", {"config": ExportConfig(data="digits")}, export.STAGE.libraries),
    ("export", "onnx", {"config": ExportConfig(precision="fp16", data="digits")}, export.STAGE.libraries),
    ("quantize", "onnx", {"config": QuantizeConfig(data="digits")}, quantize.STAGE.libraries),
    (
        "quantize",
        "pt",
        {"config": QuantizeConfig(data="digits", method="qat")},
        (*quantize.STAGE.libraries, *export.STAGE.libraries),
    ),
    *[
        ("build", "onnx", {"config": BuildConfig(target=target)}, build.stage_of(target).libraries)
        for target in ON_ONNX
    ],
]


@pytest.fixture
def home(tmp_path: Path, tiny_model: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for source, name in ((tiny_model, "net.pt"), (tiny_onnx, "net.onnx")):
        Path(name).write_bytes(source.read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    ("command", "kind", "given", "libraries"), CASES, ids=[f"{one[0]}-{number}" for number, one in enumerate(CASES)]
)
def test_another_version_of_any_library_of_a_stage_is_another_place_in_the_store(
    home: Path,
    command: str,
    kind: str,
    given: dict[str, Any],
    libraries: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, output = given["config"], Path("out.pt")
    arguments = {"output": home / output, "config": config, **({"model": home / f"net.{kind}"} if kind else {})}
    data = stage.opener(config.data, allow_code=False)

    def place(**versions: str) -> str:
        asked = lambda names: {name: versions.get(name.replace("-", "_"), "1") for name in names}  # noqa: E731
        monkeypatch.setattr(stage, "library_versions", asked)
        monkeypatch.setattr(quantize, "library_versions", asked)
        return place_of(stages.planned(command, arguments, data), output)

    same = place()
    assert place() == same
    assert len(libraries) > 2
    for library in libraries:
        assert place(**{library.replace("-", "_"): "2"}) != same, library
    assert place(pydantic="2") == same


def test_libraries_that_make_a_result_are_on_the_list() -> None:
    assert "numpy" in prune.STAGE.libraries
    assert {"onnx-ir", "onnxscript", "torch", "onnxruntime"} <= set(export.STAGE.libraries)
    assert all({"deploykit", "onnx"} < set(one.libraries) for one in map(build.stage_of, WITH_BUILDER))


def test_the_store_keeps_results_under_the_keys_of_their_manifests(tmp_path: Path, digits_npz: Path) -> None:
    (tmp_path / "keys.yaml").write_text(RECIPE.format(data=json.dumps(str(digits_npz))))
    done = run(tmp_path / "keys.yaml", tmp_path / "run")
    made = {one.name: one.status for one in done.stages}
    expected = {
        "model.train", "fp32.export", "small.prune", "small.distill", "small.export", "half.export", "int8.quantize",
        "qat.qat", "qat.quantize",
    }  # fmt: skip
    assert expected <= {name for name, status in made.items() if status == "done"}, made
    entries = {folder.name: folder for folder in (tmp_path / "run" / "store").iterdir() if folder.is_dir()}
    found = set()
    for path in (tmp_path / "run" / "artifacts").iterdir():
        if not manifest_path(path).is_file():
            continue
        manifest = read_manifest(path)
        assert manifest is not None
        place = f"{manifest.key}.{safe_name(path.name)}"
        assert place in entries, path.name
        assert manifest_path(entries[place] / "artifacts" / path.name).is_file()
        found.add(manifest.stage)
    assert {"train", "prune", "distill", "export", "quantize"} <= found
    again = run(tmp_path / "keys.yaml", tmp_path / "run", RunConfig(dry_run=True))
    assert {one.status for one in again.stages if made.get(one.name) in ("done", "kept")} == {"kept"}


def test_a_stage_whose_key_needs_what_this_machine_lacks_is_skipped(
    tmp_path: Path, tiny_onnx: Path, digits_npz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploykit.base.errors import Unavailable
    from deploykit.building import tensorrt_plan
    from deploykit.pipeline import execute

    def lacking(config: BuildConfig) -> None:
        raise Unavailable("there is no builder", fix="Install it.")

    monkeypatch.setattr(tensorrt_plan, "hardware", lacking)
    monkeypatch.setattr(execute, "_lack", lambda work, one: None)
    recipe = tmp_path / "lacking.yaml"
    recipe.write_text(
        f"version: 1\nname: lacking\ndata: {json.dumps(str(digits_npz))}\n"
        f"model: {{file: {json.dumps(str(tiny_onnx))}}}\n"
        "variants: {fp32: {target: ort-cpu}, engine: {target: tensorrt-rtx}}\n"
        "benchmark: {images: 20, max_time_s: 0.5, min_blocks: 2, block_ms: 2, end_to_end: false}\n"
    )
    planned = run(recipe, tmp_path / "run", RunConfig(dry_run=True))
    assert {one.name: one.status for one in planned.stages}["engine.build"] == "to do"
    done = run(recipe, tmp_path / "run")
    (skipped,) = [one for one in done.stages if one.name == "engine.build"]
    assert (skipped.status, skipped.reason) == ("skipped", "there is no builder. Install it.")
    assert done.exit_code == 0
