"""int8 of torchvision's official MobileNetV2 on real photos: five runs of the same command beside onnxruntime's own.

Calibrated on crops of one part of the photos, judged on crops of the others. ``files`` makes the float file, onnxruntime's
settings and ours (the first run alone on the machine, the next four beside a busy core); ``table`` judges and times them in turns.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.int8_timing import session
from tests.benchmarks.peers.environments import KEPT, SCRIPTS
from tests.benchmarks.real_photos import FIRST, SECOND, folder_of_crops, official_mobilenet_v2
from tests.benchmarks.results import publish, table, told, where_measured

pytestmark = [pytest.mark.bench, pytest.mark.timeout(5400)]

SIZE, IMAGES, JUDGED, RUNS = 224, 128, 200, 5
SETTINGS = ("MinMax", "Percentile", "reduce_range", "u8u8")
PLACE = KEPT / "real" / "mobilenet_v2"
LEAD_DB, FAST, NORMAL = 3.0, 2.0, 6.0


def test_files() -> None:
    """Everything that is judged, with what it took; what is there already is kept."""
    PLACE.mkdir(parents=True, exist_ok=True)
    where = where_measured("onnxruntime-gpu", "onnxruntime", "onnx", "numpy")
    calibration = folder_of_crops(PLACE / "calibration", FIRST, IMAGES, SIZE)
    if not (PLACE / "float.onnx").exists():
        deploykit("export", official_mobilenet_v2(), "-o", PLACE / "float.onnx")
    np.save(PLACE / "calibration.npy", prepared(calibration))
    took: dict[str, float] = {}
    for setting in SETTINGS:
        command = [sys.executable, str(SCRIPTS / "onnxruntime_peer.py"), str(PLACE / "float.onnx")]
        took[setting] = seconds([*command, str(PLACE / "calibration.npy"), str(PLACE / f"{setting}.onnx"), setting])
    for effort in ("fast", "max"):
        took[effort] = quantize(calibration, PLACE / effort, effort)
    took["normal"] = quantize(calibration, PLACE / "run1", "normal")
    with busy_core():
        for i in range(2, RUNS + 1):
            quantize(calibration, PLACE / f"run{i}", "normal")
    (PLACE / "took.json").write_text(json.dumps({"where": where, "took_s": took}))


def quantize(calibration: Path, folder: Path, effort: str) -> float:
    """Quantize into a new folder; the seconds it took. Its exit code may say unsure or failed: the file is there."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    given = [
        "quantize",
        PLACE / "float.onnx",
        "--data",
        calibration,
        "--images",
        IMAGES,
        "--effort",
        effort,
        "--threads",
        2,
    ]
    took = seconds(
        [sys.executable, "-m", "deploykit.cli.main", *map(str, given), "-o", str(folder / "int8.onnx")], (0, 1, 3)
    )
    assert (folder / "int8.onnx").exists()
    return took


def deploykit(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "deploykit.cli.main", *map(str, arguments)], check=True)


def seconds(command: list[str], codes: tuple[int, ...] = (0,)) -> float:
    start = time.perf_counter()
    code = subprocess.run(command, check=False).returncode
    assert code in codes, command
    return time.perf_counter() - start


@contextmanager
def busy_core() -> Iterator[None]:
    """Another process that computes all the time."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def prepared(folder: Path) -> np.ndarray:
    """The images of a folder as the float file's own preprocessing makes them, float32 [N, 3, H, W]."""
    from PIL import Image

    from deploykit.data import prepare
    from deploykit.engines import open_runner

    with open_runner(PLACE / "float.onnx") as runner:
        assert runner.preprocessing is not None
        images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))]
        return prepare(images, runner.preprocessing)


def test_table() -> None:
    """What each file answers on photos that were not calibrated on, and its time beside the others, in turns."""
    found = json.loads((PLACE / "took.json").read_text())
    x = prepared(folder_of_crops(PLACE / "judged", SECOND, JUDGED, SIZE, seed=1))
    paths = {name: PLACE / f"{name}.onnx" for name in SETTINGS}
    paths |= {name: PLACE / name / "int8.onnx" for name in ("fast", "max", *(f"run{i}" for i in range(1, RUNS + 1)))}
    reference = answers(PLACE / "float.onnx", x)
    rows = {name: {**judged(reference, answers(path, x)), "sha256": sha256(path)} for name, path in paths.items()}
    best = max(SETTINGS, key=lambda name: rows[name]["snr_db"])
    times = in_turns({"float": PLACE / "float.onnx", **paths}, x[:1])
    for name, row in rows.items():
        row |= {"speedup": speed(times["float"], times[name]), "over_best_peer": speed(times[best], times[name])}
        row["took_s"] = found["took_s"].get("normal" if name == "run1" else name)
    result = {"where": found["where"], "best_setting": best, "images": IMAGES, "judged": JUDGED, "rows": rows}
    publish("real_models", result, _text(result))
    _hold(result)


def answers(path: Path, x: np.ndarray) -> np.ndarray:
    opened = session(path)
    name = opened.get_inputs()[0].name
    return np.concatenate([opened.run(None, {name: one[None]})[0] for one in x])


def judged(reference: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """SNR of the centred logits in dB, and the answers that are kept: of all images, and of the confident ones."""
    from scipy.special import softmax

    centre = reference.mean(axis=0)
    noise = float(((reference - found) ** 2).sum())
    same = reference.argmax(1) == found.argmax(1)
    confident = softmax(reference, axis=1).max(axis=1) >= 0.5
    return {
        "snr_db": 10 * float(np.log10(((reference - centre) ** 2).sum() / noise)),
        "kept": float(same.mean()),
        "confident_kept": float(same[confident].mean()),
        "confident": int(confident.sum()),
    }


def in_turns(paths: dict[str, Path], x: np.ndarray) -> dict[str, np.ndarray]:
    """Seconds a call, one thread, in rounds of random order."""
    from contextlib import ExitStack

    from deploykit.base.overrides import Stated
    from deploykit.engines import open_runner
    from deploykit.latency.interleave import interleaved_blocks_s

    with ExitStack() as stack:
        runners = {
            name: stack.enter_context(open_runner(path, threads=1, stated=Stated((SIZE, SIZE))))
            for name, path in paths.items()
        }
        return interleaved_blocks_s(runners, x, rounds=60)


def speed(base: np.ndarray, times: np.ndarray) -> dict[str, float]:
    from deploykit.stats.ratio import speed_up, speed_up_interval

    low, high = speed_up_interval(base, times)
    return {"estimate": speed_up(base, times), "low": low, "high": high}


def sha256(path: Path) -> str:
    from deploykit.base.hashing import file_sha256

    return file_sha256(path)


def _text(result: dict[str, Any]) -> str:
    def shown(one: dict[str, float]) -> str:
        return f"{one['estimate']:.2f} ({one['low']:.2f} … {one['high']:.2f})"

    rows = [
        [
            f"onnxruntime, {name}" if name in SETTINGS else f"deploykit, {name}",
            f"{row['snr_db']:.1f}", f"{row['kept']:.3f}", f"{row['confident_kept']:.3f}",
            shown(row["speedup"]), shown(row["over_best_peer"]),
            "" if row["took_s"] is None else f"{row['took_s']:.0f}", row["sha256"][:8],
        ]
        for name, row in result["rows"].items()
    ]  # fmt: skip
    confident = next(iter(result["rows"].values()))["confident"]
    heads = [
        "int8",
        "SNR dB",
        "answers kept",
        "confident kept",
        "over float",
        f"over {result['best_setting']}",
        "took s",
    ]
    return "\n".join(
        [
            "# int8 of torchvision's official MobileNetV2 on real photos",
            "",
            told(result["where"]),
            f"{result['images']} crops of one part of scikit-image's and scikit-learn's photos to calibrate, {result['judged']} of the others",
            f"to judge ({confident} of them the float network is sure of); batch 1, one thread, all files timed in turns. `run2` to `run5`",
            "are the command of `run1` beside a busy core.",
            "",
            table([*heads, "sha256"], rows),
        ]
    )


def _hold(result: dict[str, Any]) -> None:
    rows, best, missed = result["rows"], result["rows"][result["best_setting"]], []
    runs = [rows[f"run{i}"] for i in range(1, RUNS + 1)]
    for i, row in enumerate(runs, 1):
        if row["snr_db"] < best["snr_db"] + LEAD_DB:
            missed.append(f"run{i}: {row['snr_db']:.1f} dB, onnxruntime's best {best['snr_db']:.1f}")
        if row["over_best_peer"]["high"] < 1:
            missed.append(f"run{i}: slower than onnxruntime's best")
    if len({row["sha256"] for row in runs}) > 1:
        missed.append("the five runs are not the same bytes")
    if rows["fast"]["snr_db"] < best["snr_db"]:
        missed.append(f"fast: {rows['fast']['snr_db']:.1f} dB, onnxruntime's best {best['snr_db']:.1f}")
    for name, times in (("fast", FAST), ("run1", NORMAL)):
        if rows[name]["took_s"] > times * best["took_s"]:
            missed.append(
                f"{name} took {rows[name]['took_s'] / best['took_s']:.1f} times onnxruntime's time, mark {times:g}"
            )
    assert not missed, missed
