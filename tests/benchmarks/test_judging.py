"""A planted drop on many and on few images, and what judging and showing ten variants costs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.results import publish, table, told, where_measured

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

LIMIT_PT, DROP_PT, LOST_PT = 0.5, 1.0, 1.5
IMAGES, CLASSES, VARIANTS = 50_000, 1000, 10


def _trained(folder: Path, data: str, epochs: int) -> Path:
    from deploykit.commands.export import export
    from deploykit.commands.train import train
    from deploykit.config.export import ExportConfig
    from deploykit.config.train import ModelConfig, TrainConfig

    kwargs = {"depth": 8, "widths": [16, 32, 64], "stem_stride": 2}
    model = ModelConfig(arch="deploykit:resnet", kwargs=kwargs)
    train(folder / "net.pt", TrainConfig(model=model, data=data, epochs=epochs, threads=1))
    export(folder / "net.pt", folder / "net.onnx", ExportConfig())
    return folder / "net.onnx"


def _planted(folder: Path, data: str, epochs: int) -> Path:
    """A run folder of a real network and of the same with a drop of one point planted into its answers.

    1.5 % of all images, answered right, become wrong, and 0.5 %, answered wrong, become right.
    """
    from deploykit.commands.evaluate import evaluate
    from deploykit.config.evaluate import EvaluateConfig
    from deploykit.evaluation.logits import SavedLogits, load_logits, save_logits
    from deploykit.evaluation.metrics import judge
    from deploykit.reporting import read_report, write_report

    folder.mkdir()
    engine = _trained(folder, data, epochs)
    run = folder / "run"
    evaluate([f"base={engine}", f"candidate={engine}"], run, EvaluateConfig(data=data, baseline="base", batch=256))
    report = read_report(run)
    saved = load_logits(run / report.variants[1].accuracy.logits_file)
    logits, labels, n = saved.logits.copy(), saved.labels, len(saved.labels)
    generator = np.random.default_rng(0)
    right = logits.argmax(axis=1) == labels
    lost = generator.choice(np.flatnonzero(right), round(n * LOST_PT / 100), replace=False)
    won = generator.choice(np.flatnonzero(~right), round(n * (LOST_PT - DROP_PT) / 100), replace=False)
    logits[lost, (labels[lost] + 1) % logits.shape[1]] = logits[lost].max(axis=1) + 1
    logits[won, labels[won]] = logits[won].max(axis=1) + 1
    place = report.variants[1].accuracy.logits_file
    save_logits(run / place, SavedLogits(logits, labels, saved.data_sha256, saved.classes))
    base = load_logits(run / report.variants[0].accuracy.logits_file).logits
    report.variants[1].accuracy = judge(logits, labels, base).model_copy(update={"logits_file": place})
    write_report(report, run)
    (run / "report.json.manifest.json").unlink()
    return run


def test_planted_drop(tmp_path):
    from deploykit.commands.gate import gate
    from deploykit.config.gate import GateConfig, GatePolicy

    where, rows = where_measured("numpy", "scipy"), []
    policy = GatePolicy(version=1, limits={"candidate": {"max_drop_pt": LIMIT_PT}})
    for name, data, epochs in (("synthetic", "synthetic:0,train=4000", 2), ("digits", "digits", 3)):
        run = _planted(tmp_path / name, data, epochs)
        (one,) = gate(run, None, GateConfig(policy=policy, annotations="none")).gate.findings
        n = json.loads((run / "report.json").read_text())["data"]["n"]
        rows.append({"data": name, "n": n, **one.to_dict()})
    cells = [
        [
            f"{row['n']:,} images, {row['data']}",
            f"{row['value']:+.2f} pt",
            f"{row['low']:+.2f} … {row['high']:+.2f} pt",
            row["verdict"].replace("_", " "),
            row["more"] or "",
        ]
        for row in rows
    ]
    text = "\n".join(
        [
            f"# A drop of one point, planted into a real network's answers, against a limit of {LIMIT_PT} pt",
            "",
            "`make bench BENCH=planted_drop`: trained, exported and run for real; 1.5 % of the images then made wrong and "
            "0.5 % right. 95 % confidence.",
            told(where),
            "",
            table(["", "drop", "interval", "verdict", "what would settle it"], cells),
        ]
    )
    publish("planted_drop", {**where, "limit_pt": LIMIT_PT, "rows": rows}, text)
    assert rows[0]["n"] == 20_000
    assert rows[0]["verdict"] == "fail"
    assert rows[1]["verdict"] == "cannot_tell"
    assert "more images" in rows[1]["more"]


JUDGE = """
import json, sys, time
from pathlib import Path
from deploykit.latency.worker import peak_memory_bytes
from deploykit.evaluation.metrics import judge
from deploykit.commands.gate import gate
from deploykit.config.gate import GateConfig, GatePolicy
from deploykit.evaluation.logits import load_logits
folder = Path(sys.argv[1])
names = sys.argv[2].split(",")
start, cpu = time.perf_counter(), time.process_time()
base, judged = None, {}
for name in names:
    saved = load_logits(folder / f"logits/{name}.npz")
    judged[name] = judge(saved.logits, saved.labels, base, name=name).plain()
    base = saved.logits if base is None else base
    del saved
wall, used = time.perf_counter() - start, time.process_time() - cpu
print(json.dumps({"judged": judged, "wall_s": wall, "cpu_s": used, "peak_bytes": peak_memory_bytes()}))
"""
GATE = """
import json, sys, time
from deploykit.latency.worker import peak_memory_bytes
from deploykit.commands.gate import gate
from deploykit.config.gate import GateConfig, GatePolicy
start, cpu = time.perf_counter(), time.process_time()
policy = GatePolicy(version=1, limits={"*": {"max_drop_pt": 1.0, "min_agreement": 0.9}})
found = gate(sys.argv[1], None, GateConfig(policy=policy, annotations="none"))
wall, used = time.perf_counter() - start, time.process_time() - cpu
print(json.dumps({"verdict": found.status, "limits": len(found.gate.findings), "wall_s": wall, "cpu_s": used,
                  "peak_bytes": peak_memory_bytes()}))
"""


def _alone(code: str, *arguments: str) -> dict:
    """What a process of its own printed."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_judging(tmp_path):
    from deploykit.evaluation.logits import SavedLogits, save_logits
    from deploykit.reporting import validate, write_report
    from tests.reporting import sample

    where = where_measured("numpy", "scipy")
    generator = np.random.default_rng(0)
    labels = generator.integers(0, CLASSES, IMAGES)
    logits = generator.standard_normal((IMAGES, CLASSES), dtype=np.float32)
    logits[np.arange(IMAGES), labels] += 4
    sha256 = "3f8a" * 16
    names = [f"v{number}" for number in range(VARIANTS)]
    (tmp_path / "logits").mkdir()
    for name in names:
        save_logits(tmp_path / f"logits/{name}.npz", SavedLogits(logits, labels, sha256))
        logits[generator.choice(IMAGES, 500, replace=False)] *= -1
    judging = _alone(JUDGE, str(tmp_path), ",".join(names))
    variants = [
        {"name": name, "target": "ort-cpu", "status": "ok", "accuracy": {**found, "logits_file": f"logits/{name}.npz"}}
        for name, found in judging.pop("judged").items()
    ]
    data = {"name": "made", "split": "test", "n": IMAGES, "sha256": sha256}
    report = {"schema": "deploykit.report/2", "created": "2026-11-20T12:00:00+00:00", "baseline": "v0"}
    write_report(validate({**report, "data": data, "variants": variants}), tmp_path)
    gating = _alone(GATE, str(tmp_path))
    shown = sample.report(VARIANTS)
    (tmp_path / "page").mkdir()
    sample.write_samples(shown, tmp_path / "page")
    start = time.perf_counter()
    write_report(validate(shown), tmp_path / "page")
    page = {"html_bytes": (tmp_path / "page/report.html").stat().st_size, "wall_s": time.perf_counter() - start}
    html = (tmp_path / "page/report.html").read_text()
    rows = [
        [what, f"{one['wall_s']:.1f} s", f"{one['cpu_s']:.1f} s", f"{one['peak_bytes'] / 1e9:.2f} GB"]
        for what, one in (("judge: accuracy, calibration, drop, flips", judging), ("gate of the report", gating))
    ]
    text = "\n".join(
        [
            f"# Judging {VARIANTS} variants of {IMAGES:,} × {CLASSES:,} logits from their files",
            "",
            "`make bench BENCH=test_judging`, each in a process of its own, one thread.",
            told(where),
            "",
            table(["", "time", "of the processor", "peak memory"], rows),
            "",
            f"The HTML page of {VARIANTS} variants with raw samples: {page['html_bytes'] / 1e6:.2f} MB, written in "
            f"{page['wall_s']:.1f} s, without a request to anywhere.",
        ]
    )
    publish("judging", {**where, "judge": judging, "gate": gating, "page": page}, text)
    assert judging["cpu_s"] < 10  # of the processor: what it takes where nothing else runs
    assert gating["cpu_s"] < 10
    assert max(judging["peak_bytes"], gating["peak_bytes"]) < 2e9
    assert page["html_bytes"] < 3e6
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "<script" not in html
