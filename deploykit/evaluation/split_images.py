"""The pictures two artifacts are compared on: from the data named, else a file's own samples, else synthetic ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploykit.base.artifact import artifact_sha256, read_manifest
from deploykit.base.checkpoint import is_model_file, parse_model_file, read_tensors
from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress

SYNTHETIC_BYTES = 8 * 3 * 224 * 224


@dataclass(frozen=True)
class Pictures:
    """Pictures and where they come from.

    ``images``: uint8 ``[H, W, 3]`` each. ``source``: ``data``, ``samples`` or ``synthetic``. ``files``: file names
    where they have any. ``split``: of the data, where they are of data; else as ``source``.
    """

    images: Sequence[np.ndarray]
    source: str
    files: tuple[str | None, ...] = ()
    split: str = ""

    @property
    def shown(self) -> str:
        """Whose images they are, for people."""
        return self.split or self.source

    def file(self, index: int) -> str | None:
        """The file name of one picture, or None."""
        return self.files[index] if index < len(self.files) else None


def pictures_for(
    *,
    data: str | None,
    samples: np.ndarray | None,
    size: tuple[int, int],
    limit: int,
    seed: int,
    require_real: bool,
    channels: int = 3,
    split: str = "test",
    allow_code: bool = False,
    progress: Progress = SILENT,
) -> Pictures:
    """Choose the pictures.

    ``data``: a data name, or None. ``samples``: uint8 ``[N, H, W, 3]`` that a file carries, or None. ``size``: of the
    network's input, for synthetic pictures, and ``channels``. ``limit``: number of pictures at most; spread evenly over the split.
    ``require_real``: synthetic pictures are an error.

    Raises:
        BadInput: the data cannot be read or are empty; or only synthetic pictures are left with ``require_real``.
    """
    if data is not None:
        from deploykit.data import open_data

        part = open_data(data, allow_code=allow_code, progress=progress).split(split)  # type: ignore[arg-type]
        chosen = part.chosen(limit).tolist()
        if not chosen:
            raise BadInput(f"{data} has no pictures in its split {split!r}", fix="Choose another --data or split.")
        return Pictures([part.image(i) for i in chosen], "data", tuple(_name(part.file_name(i)) for i in chosen), split)
    if samples is not None and len(samples):
        return Pictures(list(samples[:limit]), "samples")
    if require_real:
        raise BadInput(
            "there are no real pictures to verify on",
            got="no --data, and the file carries no samples",
            expected="real pictures, as --require-real says",
            fix="Name pictures with --data.",
        )
    from deploykit.data import synthetic_images

    count = max(8, min(32, limit, SYNTHETIC_BYTES // (3 * size[0] * size[1])))
    progress.warn(f"verified on {count} synthetic pictures: no --data was given and the file carries no samples")
    return Pictures(list(synthetic_images(min(count, limit), size, seed, channels)), "synthetic")


def _name(file: str | None) -> str | None:
    return None if file is None else Path(file).name


def samples_of(path: Path) -> np.ndarray | None:
    """The pictures a model file carries, uint8 ``[N, H, W, 3]``: its own, or those of the model its manifest was made from.

    A parent is believed only while it has the hash that the manifest states.
    """
    for _ in range(8):
        if path.suffix.lower() in (".pt", ".pth"):
            content = read_tensors(path)
            samples = parse_model_file(content, path).samples if is_model_file(content) else None
            return None if not samples else samples["images"].numpy()
        manifest = read_manifest(path)
        parents = [one for one in (manifest.parents if manifest else ()) if one.role == "model" and one.path]
        if not parents:
            return None
        parent = path.parent / str(parents[0].path)
        if not parent.is_file() or artifact_sha256(parent) != parents[0].sha256:
            return None
        path = parent
    return None
