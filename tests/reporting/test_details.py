from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploykit.reporting import details
from deploykit.reporting import rows as view
from deploykit.reporting.html import to_html
from deploykit.reporting.read import validate
from deploykit.reporting.schema import Report
from tests.reporting import sample


def detailed(count: int, folder: Path, classes: int = 10, flips: int = 24) -> Report:
    """A made-up report with everything an evaluation may leave."""
    from PIL import Image

    generator = np.random.default_rng(0)
    made = sample.report(count)
    (folder / "thumbnails").mkdir()
    names = [f"class {n}" for n in range(classes)]
    for variant in made["variants"]:
        accuracy = variant["accuracy"]
        scores = {"precision": 0.9, "recall": 0.9, "f1": 0.9, "agreement": 0.99, "negative_flips": 0.01}
        accuracy["per_class"] = [{"name": name, "n": 45, **scores} for name in names]
        accuracy["confusion"] = generator.integers(0, 9, (classes, classes)).tolist() if classes <= 30 else None
        accuracy["confused"] = [{"label": names[0], "predicted": names[1], "n": 3}]
        accuracy["reliability"] = [
            {"low": n / 15, "high": (n + 1) / 15, "n": 30, "confidence": (n + 0.5) / 15, "accuracy": n / 15}
            for n in range(15)
        ]
        accuracy["robustness"] = [
            {"corruption": kind, "strength": strength, "n": 500, "top1": 0.9, "drop_pt": 1.5, "drop_pt_low": 0.2}
            for kind in ("noise", "blur", "brightness", "jpeg")
            for strength in (1, 2, 3)
        ]
        accuracy["flips"] = []
        for number in generator.integers(0, 450, flips).tolist():
            path = folder / "thumbnails" / f"{number}.jpg"
            if not path.exists():
                Image.fromarray(generator.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path, quality=30)
            flip = {"image": number, "label": names[0], "base": names[0], "predicted": names[1], "confidence": 0.8}
            accuracy["flips"].append({**flip, "picture": f"thumbnails/{number}.jpg"})
        first = variant["measurements"][0]
        variant["measurements"] += [
            {**first, "batch": batch, "sweep": "batch", "throughput_per_s": 900 * batch**0.5, "samples_file": None}
            for batch in (1, 2, 4, 8)
        ]
        variant["measurements"].append(
            {**first, "scenario": "server", "latency_bound_ms": 15.0, "blocks": None, "samples_file": None}
        )
    made["conditions"] = {"load_of_others": 0.034, "governor": "performance", "cpu_mhz": [2100, 3400]}
    return validate(made)


def test_ten_variants_stay_below_three_megabytes(tmp_path: Path) -> None:
    made = detailed(10, tmp_path, classes=100)
    sample.write_samples(made.plain(), tmp_path)
    page = to_html(made, tmp_path)
    assert len(page.encode()) < 3_000_000
    assert page.count("data:image/jpeg;base64,") == 240
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page


def test_pictures_beyond_the_limit_and_foreign_ones_are_left_out(tmp_path: Path, monkeypatch) -> None:
    made = detailed(2, tmp_path, flips=6)
    flips = made.variants[0].accuracy.flips
    (tmp_path / flips[0].picture).write_bytes(b"<script>alert(1)</script>")
    (tmp_path / flips[1].picture).write_bytes(b"\xff\xd8\xff" + bytes(20_000))
    (tmp_path / flips[2].picture).unlink()
    secret = tmp_path.parent / "secret.jpg"
    secret.write_bytes(b"\xff\xd8\xff secret")
    (tmp_path / flips[3].picture).unlink()
    (tmp_path / flips[3].picture).symlink_to(secret)
    shown = details.flipped(made, tmp_path)[made.variants[0].name]
    assert [source is None for _, source in shown] == [True, True, True, True, False, False]
    monkeypatch.setattr(details, "PICTURES_BYTES", 10)
    assert all(source is None for _, source in details.flipped(made, tmp_path)[made.variants[0].name])


def test_the_page_shows_every_part(tmp_path: Path) -> None:
    page = to_html(detailed(3, tmp_path), tmp_path)
    for text in (
        "On corrupted images",
        "as sure as right",
        "what it takes for what",
        "Throughput over batch size",
        "server, batch 1, 1 thread, compute only, host clock, p99 within 15.0 ms",
        "2100 … 3400 MHz",
        "that the baseline gets right and it wrong",
    ):
        assert text in page
    rows = view.measurement_rows(detailed(1, tmp_path / "b") if (tmp_path / "b").mkdir() is None else None)
    assert len(rows) == 3  # sweeps have their own table


def test_how_many_flips_are_shown_is_said(tmp_path: Path) -> None:
    made = detailed(2, tmp_path, flips=3)
    first, second = (one.name for one in made.variants)
    made.variants[0].accuracy.negative_flips = 61 / 450
    made.variants[1].accuracy.negative_flips = 3 / 450
    assert details.flip_counts(made) == {first: "the 3 surest of 61 images", second: "3 images"}


def test_names_of_classes_are_escaped(tmp_path: Path) -> None:
    made = detailed(2, tmp_path)
    for one in made.variants[0].accuracy.per_class:
        one.name = "<script>alert(1)</script>"
    for one in made.variants[0].accuracy.flips:
        one.label = "<img src=x onerror=alert(1)>"
    page = to_html(made, tmp_path)
    assert "<script>" not in page
    assert "<img src=x" not in page


def test_a_matrix_that_is_not_square_is_refused(tmp_path: Path) -> None:
    from deploykit.base.errors import BadInput

    made = detailed(1, tmp_path)
    made.variants[0].accuracy.confusion = [[1, 2], [3]]
    with pytest.raises(BadInput, match="confusion is no square matrix"):
        validate(made.plain())
