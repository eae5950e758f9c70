"""Small pictures of the images that changed their answer, for the report."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from deploykit.base.atomic import atomic_path

if TYPE_CHECKING:
    from deploykit.data import Split
    from deploykit.reporting.quality import Accuracy

SIDE = 64
QUALITIES = (85, 60, 30)
MAX_BYTES = 4096


def leave_thumbnails(accuracies: Iterable[Accuracy | None], split: Split, folder: Path) -> None:
    """Write ``thumbnails/IMAGE.jpg`` of every flip and name it in its ``picture``; an image of several is written once.

    Args:
        accuracies: of the report's variants; those without flips are passed over.
        split: whose images.
        folder: of the report.
    """
    written = set()
    for accuracy in accuracies:
        for flip in (accuracy.flips if accuracy else None) or ():
            name = f"thumbnails/{flip.image}.jpg"
            if name not in written:
                written.add(name)
                (folder / "thumbnails").mkdir(exist_ok=True)
                with atomic_path(folder / name) as temporary:
                    temporary.write_bytes(_small(split, flip.image))
            flip.picture = name


def _small(split: Split, number: int) -> bytes:
    """A JPEG of at most 64 pixels a side and about 4 kB; small pictures are enlarged without smoothing."""
    from PIL import Image

    from deploykit.data.images import shown

    picture = shown(split.image(number))
    if max(picture.size) <= SIDE // 2:
        times = SIDE // max(picture.size)
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    picture.thumbnail((SIDE, SIDE))
    for quality in QUALITIES:
        packed = io.BytesIO()
        picture.save(packed, "JPEG", quality=quality, optimize=True)
        if packed.tell() <= MAX_BYTES:
            break
    return packed.getvalue()
