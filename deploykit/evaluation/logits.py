"""Logits as files, and the checks they must pass before anything is computed from them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploykit.base.atomic import atomic_path
from deploykit.base.errors import AnswerNo, BadInput, from_os_error

_KEYS = ("logits", "labels", "data_sha256", "classes")


@dataclass(frozen=True)
class SavedLogits:
    """What a logits file holds.

    ``logits``: float32 [N, C]. ``labels``: int64 [N]. ``data_sha256``: of the split they were computed on. ``classes``:
    names in the order of the columns; empty where not known.
    """

    logits: np.ndarray
    labels: np.ndarray
    data_sha256: str
    classes: tuple[str, ...] = ()


def save_logits(path: Path, saved: SavedLogits) -> None:
    """Write logits as an ``.npz`` without pickles, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            logits=np.asarray(saved.logits, dtype=np.float32),
            labels=np.asarray(saved.labels, dtype=np.int64),
            data_sha256=np.array(saved.data_sha256),
            classes=np.array(saved.classes, dtype=np.str_),
        )


def load_logits(path: Path) -> SavedLogits:
    """Read what :func:`save_logits` wrote.

    Raises:
        BadInput: missing, truncated, foreign, or arrays that do not fit together.
    """
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise BadInput(f"{path} holds no logits", got="one array", expected="an .npz with " + ", ".join(_KEYS))
        with file:
            if set(file.files) != set(_KEYS):
                raise BadInput(f"{path} holds no logits", expected="an .npz with " + ", ".join(_KEYS))
            logits, labels = file["logits"], file["labels"]
            sha256, classes = str(file["data_sha256"]), tuple(str(name) for name in file["classes"])
    except OSError as error:
        raise from_os_error(error, f"cannot read {path}") from error
    except (ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} holds no logits we can read: {error}", fix="Evaluate again.") from error
    if logits.dtype != np.float32 or labels.dtype != np.int64 or logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise BadInput(
            f"{path}: logits and labels do not fit together",
            got=f"{logits.dtype} {logits.shape} and {labels.dtype} {labels.shape}",
            expected="float32 [N, C] and int64 [N]",
        )
    return SavedLogits(logits, labels, sha256, classes)


def check_logits(logits: np.ndarray, labels: np.ndarray, name: str) -> None:
    """Refuse what accuracy cannot be computed from.

    ``logits``: what the model gave for N images. ``labels``: int64 [N]. ``name``: of the model, for the message.

    Raises:
        BadInput: no images, outputs that are no [N, C], one logit, several labels per image, labels outside the head.
        AnswerNo: NaN or infinite logits.
    """
    if len(labels) == 0:
        raise BadInput(f"{name}: there are no images to evaluate on", fix="Choose another --data or split.")
    if logits.ndim != 2 or logits.shape[0] != len(labels):
        raise BadInput(
            f"{name} is no classifier with one label per image",
            got=f"outputs of shape {list(logits.shape)} for {len(labels)} images",
            expected="[N, C]",
            fix="Detection and segmentation models cannot be evaluated yet; `deploykit verify` compares their outputs.",
        )
    if logits.shape[1] == 1:
        raise one_logit(name)
    if not np.isfinite(logits).all():
        bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        raise AnswerNo(
            f"{name}: NaN or infinite logits for {len(bad)} of {len(labels)} images, the first is image {bad[0]}"
        )
    if looks_multi_label(logits):
        raise multi_label(name, "image")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[1]:
        raise BadInput(
            f"{name}: the labels do not fit the head",
            got=f"labels {low}…{high} and {logits.shape[1]} outputs",
            expected=f"labels 0…{logits.shape[1] - 1}",
            fix="Use the data it was trained on, or a model with as many classes as the data.",
        )


def one_logit(name: str) -> BadInput:
    """The refusal of a model with a single output."""
    return BadInput(
        f"{name} is a one-logit (binary) model",
        got="outputs of shape [N, 1]",
        expected="one logit per class",
        fix="Give it two logits: [0, x] in place of x.",
    )


def multi_label(name: str, unit: str) -> BadInput:
    """The refusal of a model with sigmoid outputs; ``unit`` is what it was given, an image or a picture."""
    return BadInput(
        f"{name} looks like a multi-label model (sigmoid outputs)",
        got="every output in [0, 1], rows that do not sum to 1",
        expected=f"one logit per class, one class per {unit}",
    )


def looks_multi_label(logits: np.ndarray) -> bool:
    """Whether the outputs are independent probabilities: all in [0, 1], not constant, rows far from summing to 1."""
    if float(logits.min()) < 0 or float(logits.max()) > 1 or float(np.ptp(logits)) < 1e-3:
        return False
    return bool(np.median(np.abs(logits.sum(axis=1, dtype=np.float64) - 1)) > 1e-2)
