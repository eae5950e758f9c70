"""A recipe from end to end on real digits: made once, kept, resumed, and honest about what failed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from typer.testing import CliRunner

from deploykit.base.errors import AnswerNo, BadInput, SystemTrouble
from deploykit.cli.main import app
from deploykit.config.run import RunConfig
from deploykit.pipeline import RunResult, run
from deploykit.reporting import read_report
from tests.listening import Listening

RECIPE = """\
version: 1
name: tiny
data: digits
model: {arch: deploykit:resnet, kwargs: {depth: 8, widths: [4, 8, 16], stem_stride: 2}}
train: {epochs: 1, threads: 1}
variants:
  fp32: {target: ort-cpu}
benchmark: {images: 60, max_time_s: 0.5, min_blocks: 2, block_ms: 5, end_to_end: false}
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    """One whole run; tests work on copies of its folder."""
    home = tmp_path_factory.mktemp("runs")
    (home / "tiny.yaml").write_text(RECIPE)
    return home, run(home / "tiny.yaml", home / "run")


@pytest.fixture
def again(first: tuple[Path, RunResult], tmp_path: Path) -> Path:
    """A copy of the first run's folder and recipe."""
    shutil.copytree(first[0], tmp_path / "home")
    return tmp_path / "home"


def statuses(result: RunResult) -> dict[str, str]:
    return {one.name: one.status for one in result.stages}


def test_the_first_run_does_everything(first: tuple[Path, RunResult]) -> None:
    home, result = first
    assert statuses(result) == {"model.train": "done", "fp32.export": "done", "all.benchmark": "done"}
    assert (result.status, result.exit_code) == ("ok", 0)
    names = {path.relative_to(home / "run").as_posix() for path in (home / "run").rglob("*")}
    for name in ("report.json", "report.html", "report.md", "lock", "artifacts/model.pt", "artifacts/fp32.onnx"):
        assert name in names
    for name in ("stages/model.train.yaml", "stages/fp32.export.yaml", "stages/all.benchmark.yaml"):
        assert name in names
    assert "logits/fp32.npz" in names
    assert any(name.startswith("samples/fp32") for name in names)
    assert "measure" not in names


def test_the_report_tells_the_lineage_with_commands(first: tuple[Path, RunResult]) -> None:
    home, _ = first
    report = read_report(home / "run" / "report.json")
    assert (report.recipe, report.baseline) == ("tiny", "fp32")
    [fp32] = [variant for variant in report.variants if variant.name == "fp32"]
    assert [step.stage for step in fp32.steps] == ["train", "export", "benchmark"]
    assert fp32.steps[1].command == "deploykit export --config stages/fp32.export.yaml"
    assert fp32.steps[1].output == fp32.artifact.path == "artifacts/fp32.onnx"
    assert fp32.steps[1].sha256 == fp32.artifact.sha256
    for step in fp32.steps:
        assert (home / "run" / step.command.split()[-1]).is_file()
    assert "deploykit export --config stages/fp32.export.yaml" in (home / "run" / "report.html").read_text()


def test_no_path_of_this_machine_is_in_what_is_shared(first: tuple[Path, RunResult]) -> None:
    home, _ = first
    for path in (home / "run").rglob("*"):
        if path.is_file():
            assert str(home).encode() not in path.read_bytes(), path


def test_the_second_run_does_nothing_twice_and_says_so(again: Path, listening: Listening) -> None:
    before = {path: path.read_bytes() for path in (again / "run").rglob("*") if path.is_file()}
    result = run(again / "tiny.yaml", again / "run", progress=listening)
    assert set(statuses(result).values()) == {"kept"}
    assert any(line.startswith("Nothing to do: every result of tiny is there already") for line in listening.heard)
    after = {path: path.read_bytes() for path in (again / "run").rglob("*") if path.is_file()}
    assert after == before


def test_a_moved_run_folder_is_as_good(again: Path, tmp_path: Path) -> None:
    (again / "run").rename(tmp_path / "moved")
    result = run(again / "tiny.yaml", tmp_path / "moved")
    assert set(statuses(result).values()) == {"kept"}


def test_deleted_artifacts_come_back_from_the_store(again: Path) -> None:
    kept = (again / "run" / "artifacts" / "fp32.onnx").read_bytes()
    shutil.rmtree(again / "run" / "artifacts")
    shutil.rmtree(again / "run" / "logits")
    result = run(again / "tiny.yaml", again / "run")
    assert set(statuses(result).values()) == {"kept"}
    assert (again / "run" / "artifacts" / "fp32.onnx").read_bytes() == kept
    assert (again / "run" / "logits" / "fp32.npz").is_file()


def test_a_damaged_store_is_made_again(again: Path) -> None:
    [stored] = (again / "run" / "store").glob("*/artifacts/fp32.onnx")
    stored.unlink()
    stored.write_bytes(b"damaged")
    result = run(again / "tiny.yaml", again / "run")
    assert statuses(result)["fp32.export"] == "done"
    assert statuses(result)["model.train"] == statuses(result)["all.benchmark"] == "kept"
    assert stored.read_bytes() == (again / "run" / "artifacts" / "fp32.onnx").read_bytes()


def test_an_artifact_changed_by_hand_is_not_overwritten_without_force(again: Path) -> None:
    artifact = again / "run" / "artifacts" / "fp32.onnx"
    artifact.unlink()
    artifact.write_bytes(b"mine")
    with pytest.raises(BadInput, match="was modified since deploykit made it"):
        run(again / "tiny.yaml", again / "run")
    assert artifact.read_bytes() == b"mine"
    run(again / "tiny.yaml", again / "run", force=True)
    assert artifact.read_bytes() != b"mine"


def test_adding_variants_times_all_again_but_makes_only_what_is_new(again: Path) -> None:
    more = "  old: {target: ort-cpu, steps: [{export: {opset: 18}}]}\n  twin: {from: fp32, target: ort-cpu}\n"
    (again / "tiny.yaml").write_text(RECIPE.replace("benchmark:", more + "benchmark:"))
    result = run(again / "tiny.yaml", again / "run")
    assert statuses(result) == {
        "model.train": "kept",
        "fp32.export": "kept",
        "old.export": "done",
        "all.benchmark": "done",
    }
    assert result.report is not None
    paths = {variant.name: variant.artifact.path for variant in result.report.variants}
    assert paths == {"fp32": "artifacts/fp32.onnx", "old": "artifacts/old.onnx", "twin": "artifacts/fp32.onnx"}
    (again / "tiny.yaml").write_text(RECIPE)
    back = run(again / "tiny.yaml", again / "run")
    assert set(statuses(back).values()) == {"kept"}
    assert not list((again / "run" / "logits").glob("old*"))


def test_remeasure_times_again(again: Path) -> None:
    result = run(again / "tiny.yaml", again / "run", RunConfig(remeasure=True))
    assert statuses(result) == {"model.train": "kept", "fp32.export": "kept", "all.benchmark": "done"}


def test_dry_run_shows_the_plan_and_touches_nothing(again: Path, tmp_path: Path) -> None:
    fresh = run(again / "tiny.yaml", tmp_path / "none", RunConfig(dry_run=True))
    assert statuses(fresh) == {"model.train": "to do", "fp32.export": "to do", "all.benchmark": "to do"}
    assert not (tmp_path / "none").exists()
    assert "its input is made first" in fresh.summary()
    known = run(again / "tiny.yaml", again / "run", RunConfig(dry_run=True))
    assert set(statuses(known).values()) == {"kept"}
    changed = run(again / "tiny.yaml", again / "run", RunConfig(dry_run=True, changes=("benchmark.seed=1",)))
    assert statuses(changed) == {"model.train": "kept", "fp32.export": "kept", "all.benchmark": "to do"}


def test_stage_files_do_their_stage_alone(again: Path) -> None:
    before = (again / "run" / "artifacts" / "fp32.onnx").read_bytes()
    stage = again / "run" / "stages" / "fp32.export.yaml"
    same = CliRunner().invoke(app, ["export", "--config", str(stage), "--json", "--quiet"])
    assert same.exit_code == 0, same.stderr
    for path in (again / "run" / "artifacts").glob("fp32.onnx*"):
        path.unlink()
    made = CliRunner().invoke(app, ["export", "--config", str(stage), "--json", "--quiet"])
    assert made.exit_code == 0, made.stderr
    assert (again / "run" / "artifacts" / "fp32.onnx").read_bytes() == before


def test_failed_variants_end_with_1_and_what_this_machine_lacks_is_skipped(again: Path) -> None:
    import torch

    more = (
        "  bad: {target: ort-cpu, steps: [{export: {exporter: torchscript, opset: 25}}]}\n  gpu: {target: ort-cuda}\n"
    )
    (again / "tiny.yaml").write_text(RECIPE.replace("benchmark:", more + "benchmark:"))
    done = CliRunner().invoke(app, ["run", str(again / "tiny.yaml"), "-o", str(again / "run"), "--json"])
    assert done.exit_code == 1
    answer = json.loads(done.stdout)
    assert (answer["schema"], answer["status"]) == ("deploykit.run/1", "failed")
    assert "warning: bad.export failed: " in done.stderr
    report = read_report(again / "run" / "report.json")
    found = {one.name: one for one in report.variants}
    assert found["fp32"].status == "ok"
    assert found["bad"].status == "failed"
    assert "25" in found["bad"].reason
    if not torch.cuda.is_available():
        assert found["gpu"].status == "skipped"
        assert found["gpu"].reason
        assert "warning: gpu is skipped: " in done.stderr


def test_a_failed_baseline_stops_with_its_reason(again: Path) -> None:
    bad = RECIPE.replace(
        "fp32: {target: ort-cpu}", "fp32: {target: ort-cpu, steps: [{export: {exporter: torchscript, opset: 25}}]}"
    )
    (again / "tiny.yaml").write_text(bad)
    with pytest.raises(AnswerNo, match="the baseline fp32 failed, nothing can be compared with it: "):
        run(again / "tiny.yaml", again / "run")


def test_a_model_file_instead_of_training(again: Path, tmp_path: Path) -> None:
    model = tmp_path / "mine.pt"
    shutil.copy(again / "run" / "artifacts" / "model.pt", model)
    fields = yaml.safe_load(RECIPE)
    del fields["train"]
    fields["model"] = {"file": str(model)}
    (again / "tiny.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
    result = run(again / "tiny.yaml", tmp_path / "run")
    assert statuses(result) == {"fp32.export": "done", "all.benchmark": "done"}
    assert result.report is not None
    assert [step.stage for step in result.report.variants[0].steps] == ["load", "export", "benchmark"]
    model.unlink()
    with pytest.raises(BadInput, match=r"the model .*mine\.pt does not exist"):
        run(again / "tiny.yaml", tmp_path / "run")


def test_two_runs_at_once_the_second_waits_or_says_so(again: Path, listening: Listening) -> None:
    with FileLock(again / "run" / "lock"):
        with pytest.raises(
            SystemTrouble, match=r"another run is at work in .*run\. Wait for it, or leave out --no-wait"
        ):
            run(again / "tiny.yaml", again / "run", RunConfig(wait=False))
        done = []
        second = partial(run, again / "tiny.yaml", again / "run", progress=listening)
        waiting = threading.Thread(target=lambda: done.append(second()))
        waiting.start()
        for _ in range(200):
            if listening.heard:
                break
            time.sleep(0.05)
        assert listening.heard[0].startswith("Another run is at work in ")
        assert done == []
    waiting.join(60)
    assert set(statuses(done[0]).values()) == {"kept"}


def test_a_stale_lock_is_no_trouble(again: Path) -> None:
    program = f"from filelock import FileLock; FileLock({str(again / 'run' / 'lock')!r}).acquire(); import os; os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", program])
    result = run(again / "tiny.yaml", again / "run", RunConfig(wait=False))
    assert set(statuses(result).values()) == {"kept"}


def test_folders_that_are_not_ours_are_left_alone(again: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(BadInput, match="holds files and is no run folder of deploykit"):
        run(again / "tiny.yaml", tmp_path / "mine")
    with pytest.raises(BadInput, match="is a file"):
        run(again / "tiny.yaml", tmp_path / "mine" / "thesis.txt")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (RECIPE.replace("deploykit:resnet", "os:system"), "tiny.yaml names Python code: model.arch: os:system"),
        (RECIPE.replace("digits", "my.module:load"), "tiny.yaml names Python code: data: my.module:load"),
        (
            RECIPE.replace("images: 60", "metrics: [a:b]"),
            r"benchmark.metrics: a:b\. If you trust it, add --allow-code",
        ),
    ],
)
def test_code_in_a_recipe_needs_leave(text: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(text)
    with pytest.raises(BadInput, match=line):
        run(tmp_path / "tiny.yaml", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unknown_data_stops_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE.replace("data: digits", "data: digitz"))
    with pytest.raises(BadInput, match="digit"):
        run(tmp_path / "tiny.yaml", tmp_path / "run", RunConfig(dry_run=True))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("data: digits", "data: none.npz"), r"none\.npz does not exist"),
        (("model: {", "model: {file: none.pt} #"), r"the model none\.pt does not exist"),
    ],
)
def test_inputs_that_are_not_there_leave_no_run_folder(change: tuple[str, str], line: str, tmp_path: Path) -> None:
    text = RECIPE.replace(*change)
    (tmp_path / "tiny.yaml").write_text(text.replace("train: {epochs: 1, threads: 1}\n", "") if "#" in text else text)
    with pytest.raises(BadInput, match=line):
        run(tmp_path / "tiny.yaml", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unknown_recipes_list_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"there is no recipe quickstat; expected a path, or one of .*Did you mean 'quickstart'\?"
    ):
        run("quickstat")
    with pytest.raises(BadInput, match="is a folder; expected a YAML file"):
        run(tmp_path)


def command(home: Path) -> list[str]:
    return [sys.executable, "-m", "deploykit.cli.main", "run", str(home / "tiny.yaml"), "-o", str(home / "run")]


@pytest.mark.parametrize(
    ("blow", "code"), [(signal.SIGKILL, -9), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_killed_run_resumes_with_the_same_result(
    first: tuple[Path, RunResult], tmp_path: Path, blow: int, code: int, listening: Listening
) -> None:
    """Killed in the midst of training; the second try goes on there and ends with the model of an unbroken run."""
    (tmp_path / "tiny.yaml").write_text(RECIPE.replace("epochs: 1", "epochs: 3"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command(tmp_path), stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("epoch 2/3"):
            process.send_signal(blow)
            break
    lines += process.stderr.readlines()
    process.stderr.close()
    assert process.wait() == code, lines
    assert not (tmp_path / "run" / "artifacts" / "model.pt").exists(), "killed too late to show anything"
    result = run(tmp_path / "tiny.yaml", tmp_path / "run", progress=listening)
    assert statuses(result)["model.train"] == "done"
    assert any(
        "resum" in line.lower() or "goes on" in line.lower() or "going on" in line.lower() for line in listening.heard
    )
    assert not any(line.startswith("epoch 1/3") for line in listening.heard)
    (tmp_path / "whole").mkdir()
    whole = CliRunner().invoke(
        app, ["train", "--config", str(moved(tmp_path / "run" / "stages" / "model.train.yaml", tmp_path / "whole"))]
    )
    assert whole.exit_code == 0, whole.stderr
    assert same_weights(tmp_path / "run" / "artifacts" / "model.pt", tmp_path / "whole" / "model.pt")


def moved(stage: Path, folder: Path) -> Path:
    fields = yaml.safe_load(stage.read_text())
    fields["arguments"]["output"] = "model.pt"
    (folder / "train.yaml").write_text(yaml.safe_dump(fields))
    return folder / "train.yaml"


def same_weights(a: Path, b: Path) -> bool:
    import torch

    from deploykit.models import load_model

    one, two = (load_model(path).module.state_dict() for path in (a, b))
    return list(one) == list(two) and all(torch.equal(one[key], two[key]) for key in one)
