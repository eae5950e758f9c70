from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deploykit.base.artifact import read_manifest, safe_name
from deploykit.base.errors import AnswerNo, BadInput
from deploykit.commands.evaluate import evaluate, refuse_stored_code
from deploykit.config.evaluate import EvaluateConfig
from deploykit.evaluation.logits import load_logits
from deploykit.evaluation.metrics import judge
from deploykit.reporting import read_report
from tests.listening import Listening


@pytest.fixture
def config(digits_npz: Path) -> EvaluateConfig:
    return EvaluateConfig(data=str(digits_npz), threads=1, batch=32)


@pytest.fixture
def worse(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with noise on its head: right on fewer digits."""
    import torch

    from deploykit.models import load_model, save_model

    loaded = load_model(tiny_model)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loaded.module.fc.weight.add_(3 * torch.randn_like(loaded.module.fc.weight))
    path = tmp_path / "worse.pt"
    save_model(
        path,
        loaded.module,
        loaded.arch,
        loaded.preprocessing,
        loaded.classes,
        lineage=loaded.lineage,
        samples=loaded.samples,
    )
    return path


def test_two_models_are_judged_and_compared(tiny_model: Path, worse: Path, config: EvaluateConfig) -> None:
    result = evaluate([f"good={tiny_model}", f"bad={worse}"], None, config)
    good, bad = (variant.accuracy for variant in result.report.variants)
    assert result.ok
    assert (good.n, bad.n) == (64, 64)
    assert good.drop_pt is None
    assert bad.drop_pt == pytest.approx(100 * (good.top1 - bad.top1))
    assert bad.drop_pt > 5
    assert bad.drop_pt_low < bad.drop_pt < bad.drop_pt_high
    assert bad.agreement < 1
    assert len(bad.per_class) == 10
    assert "bad" in result.summary()
    json.dumps(result.to_dict(), allow_nan=False)
    assert result.to_dict()["report"] is None


def test_the_baseline_may_stand_anywhere(tiny_model: Path, worse: Path, config: EvaluateConfig) -> None:
    result = evaluate([f"bad={worse}", f"good={tiny_model}"], None, config.but(baseline="good"))
    assert [variant.name for variant in result.report.variants] == ["bad", "good"]
    assert result.report.variants[0].accuracy.drop_pt > 5
    assert result.report.baseline == "good"


def test_the_same_model_loses_nothing(tiny_model: Path, config: EvaluateConfig) -> None:
    result = evaluate([f"a={tiny_model}", f"b={tiny_model}"], None, config)
    found = result.report.variants[1].accuracy
    assert (found.drop_pt, found.drop_pt_high, found.agreement, found.mcnemar_p) == (0, 0, 1, 1)


def test_a_folder_gets_report_logits_and_manifest(tiny_model: Path, config: EvaluateConfig, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    result = evaluate([f"a={tiny_model}", f"b+1={tiny_model}"], folder, config)
    report = read_report(folder)
    assert report == result.report
    saved = load_logits(folder / report.variants[1].accuracy.logits_file)
    assert saved.data_sha256 == report.data.sha256
    assert np.mean(saved.logits.argmax(axis=1) == saved.labels) == report.variants[1].accuracy.top1
    assert saved.classes == tuple(str(n) for n in range(10))
    manifest = read_manifest(folder / "report.json")
    assert manifest is not None
    assert manifest.kind == "report"
    content = (folder / "report.json").read_text() + (folder / "report.json.manifest.json").read_text()
    assert str(tmp_path.parent) not in content
    assert {path.name for path in folder.iterdir()} == {
        "report.json",
        "report.json.manifest.json",
        "report.html",
        "report.md",
        "logits",
    }


def test_the_same_again_does_nothing(
    tiny_model: Path, config: EvaluateConfig, tmp_path: Path, listening: Listening
) -> None:
    folder = tmp_path / "out"
    first = evaluate([str(tiny_model)], folder, config)
    before = (folder / "report.json").stat().st_mtime_ns
    again = evaluate([str(tiny_model)], folder, config, progress=listening)
    assert again.report == first.report
    assert (folder / "report.json").stat().st_mtime_ns == before
    assert any("was done before" in message for message in listening.said)
    other = evaluate([str(tiny_model)], folder, config.but(images=10))
    assert other.report.data.n == 10


@pytest.mark.parametrize("name", ["report.json", "report.html", "report.md"])
def test_foreign_files_are_kept(name: str, tiny_model: Path, config: EvaluateConfig, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(BadInput, match="was not made by deploykit"):
        evaluate([str(tiny_model)], tmp_path, config)
    assert (tmp_path / name).read_text() == "mine"
    evaluate([str(tiny_model)], tmp_path, config, force=True)
    assert (tmp_path / name).read_text() != "mine"


def test_labels_that_do_not_fit_the_head_are_refused(tiny_model: Path, image_folder: Path) -> None:
    with pytest.raises(BadInput, match="classes of the model and of the data do not fit"):
        evaluate([str(tiny_model)], None, EvaluateConfig(data=str(image_folder), threads=1))


def test_an_engine_that_gives_nan_is_failed_and_the_rest_is_judged(
    tiny_model: Path, config: EvaluateConfig, tmp_path: Path, listening: Listening
) -> None:
    import torch

    class Poisoned(torch.nn.Module):
        def forward(self, x):
            return (x.mean(dim=(2, 3)) - 2).repeat(1, 4)[:, :10].log()

    path = tmp_path / "nan.onnx"
    torch.onnx.export(
        Poisoned(), (torch.ones(2, 3, 32, 32),), path, dynamo=False, dynamic_axes={"x": {0: "n"}}, input_names=["x"]
    )
    result = evaluate([f"good={tiny_model}", f"nan={path}@ort-cpu"], None, config, progress=listening)
    assert not result.ok
    good, bad = result.report.variants
    assert good.status == "ok"
    assert bad.status == "failed"
    assert "NaN or infinite logits for" in bad.reason
    assert "nan failed: nan: NaN" in result.summary()
    first = evaluate([f"nan={path}@ort-cpu", f"good={tiny_model}"], None, config)
    assert first.report.warnings == ["the baseline nan failed, so nothing could be compared with it"]
    assert first.report.variants[1].accuracy.drop_pt is None


@pytest.mark.parametrize(
    ("artifacts", "change", "message"),
    [
        ([], {}, "no artifact to evaluate"),
        (["MODEL", "MODEL"], {}, "two artifacts are called 'tiny'; *|two artifacts are called 'tiny'"),
        (["MODEL"], {"baseline": "tiyn"}, "unknown baseline 'tiyn'; expected one of tiny. Did you mean 'tiny'?"),
        (["missing.pt"], {}, "missing.pt"),
        (["MODEL@warp-drive"], {}, "unknown target 'warp-drive'"),
        (["MODEL"], {"metrics": ("nowhere_at_all:f",)}, "cannot import the metric nowhere_at_all:f"),
        (["MODEL"], {"metrics": ("plain",)}, "the metric 'plain' is not understood; expected module:function"),
        (["MODEL"], {"metrics": ("math:pi",)}, "the metric math:pi is no function; got float"),
        (["MODEL"], {"metrics": ("math:sqrt",)}, "the metric math:sqrt failed: TypeError"),
        (["MODEL"], {"metrics": ("builtins:zip",)}, "the metric builtins:zip returned no number; got zip"),
        (["MODEL"], {"data": "nowhere"}, "nowhere"),
    ],
)
def test_wrong_use_is_one_clear_line(
    artifacts: list[str], change: dict, message: str, tiny_model: Path, config: EvaluateConfig
) -> None:
    given = [one.replace("MODEL", str(tiny_model)) for one in artifacts]
    with pytest.raises(BadInput, match=message) as caught:
        evaluate(given, None, config.but(**change))
    assert "\n" not in caught.value.line()


def test_a_missing_folder_and_a_file_in_its_place_are_named(
    tiny_model: Path, config: EvaluateConfig, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"the folder .* does not exist"):
        evaluate([str(tiny_model)], tmp_path / "no" / "where", config)
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="it is a file"):
        evaluate([str(tiny_model)], tmp_path / "file", config)


def test_a_custom_metric_is_computed_on_copies(
    tiny_model: Path, config: EvaluateConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_metrics_for_evaluate.py").write_text(
        "def margin(logits, labels):\n"
        "    logits.sort(axis=1)\n"
        "    return float((logits[:, -1] - logits[:, -2]).mean())\n"
        "def nothing(logits, labels):\n"
        "    return float('nan')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    names = ("my_metrics_for_evaluate:margin", "my_metrics_for_evaluate:nothing")
    result = evaluate([str(tiny_model)], None, config.but(metrics=names))
    accuracy = result.report.variants[0].accuracy
    assert accuracy.metrics[names[0]] > 0
    assert accuracy.metrics[names[1]] is None
    assert accuracy.top1 > 0.8
    assert names[0] in result.summary()


def test_stored_code_needs_permission() -> None:
    for fields in ({"data": "my.module:f"}, {"data": "digits", "metrics": ("m:f",)}):
        with pytest.raises(BadInput, match=r"stage.yaml names Python code: (my.module:f|m:f)\. If you trust it"):
            refuse_stored_code(EvaluateConfig(**fields), "stage.yaml")
        refuse_stored_code(EvaluateConfig(**fields, allow_code=True), "stage.yaml")
    for data in ("digits", "synthetic:3", "cifar10:root", "imagenet:folder"):
        refuse_stored_code(EvaluateConfig(data=data), "stage.yaml")


def test_judging_needs_no_runner() -> None:
    labels = np.arange(100) % 3
    logits = np.eye(3, dtype=np.float32)[labels] * 4 - 1
    assert judge(logits, labels, None).top1 == 1
    assert "drop_pt" not in judge(logits, labels, None)
    assert judge(logits, labels, logits[:, [1, 0, 2]]).drop_pt < 0
    with pytest.raises(AnswerNo, match="the model: NaN"):
        judge(np.full((100, 3), np.nan, dtype=np.float32), labels, None)


def test_names_become_safe_file_names() -> None:
    assert safe_name("pruned50-int8") == "pruned50-int8"
    for evil in ("../../x", "a/b", ".", "..", "con\n", "<b>", "x" * 300, ""):
        made = safe_name(evil)
        assert "/" not in made
        assert not made.startswith(".")
        assert len(made) <= 60
    assert safe_name("a/b") != safe_name("a:b")
