"""What pictures show: the classes that a runner names, their probabilities, and copies with the answer drawn on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploykit.base.atomic import atomic_path, check_parent, make_folder
from deploykit.base.errors import AnswerNo, BadInput, from_os_error
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.base.runner import Runner, fed_batch
from deploykit.base.task import need_classifier
from deploykit.config.predict import PredictConfig
from deploykit.data.channels import channels_note
from deploykit.data.formats.folders import pictures_below
from deploykit.data.images import labelled, read_image
from deploykit.data.source import Split
from deploykit.data.stores import Files, Part, readable
from deploykit.engines.batching import filled
from deploykit.evaluation.logits import looks_multi_label, multi_label, one_logit
from deploykit.evaluation.run_classifier import preprocessing_of
from deploykit.reporting.format import percent

_SUMS_TO_ONE = 1e-3
_SURE_OF_SIGMOID = 16  # so many outputs in [0, 1] are no accident


@dataclass(frozen=True)
class Answer:
    """What one picture shows.

    ``top``: (name, index of the output, probability 0…1), the most probable first.
    """

    file: str
    top: tuple[tuple[str, int, float], ...]


def split_of_files(images: Sequence[str | Path], config: PredictConfig, progress: Progress) -> Split:
    """The pictures named as a split without labels: files as they are, folders as the pictures below them.

    Raises:
        BadInput: nothing named, a missing path, a folder without pictures, or a picture that cannot be read.
    """
    paths = _paths(images)
    part = readable(Part(Files(paths), np.zeros(len(paths), dtype=np.int64)), config.skip_broken, progress)
    return Split("pictures", (), part.store, np.arange(len(part.labels)), part.labels, progress)


def _paths(images: Sequence[str | Path]) -> list[str]:
    paths: list[str] = []
    for one in images:
        path = Path(one)
        if path.is_dir():
            found = pictures_below(path)
            if not found:
                raise BadInput(f"the folder {path} holds no pictures", expected="JPEG, PNG, WebP, TIFF …")
            paths += found
        elif path.exists():
            paths.append(str(path))
        else:
            raise BadInput(f"the picture {path} does not exist", fix="Check the path.")
    if not paths:
        raise BadInput("no pictures named", expected="files or folders after the artifact")
    return paths


def answers_of(runner: Runner, split: Split, path: Path, config: PredictConfig, progress: Progress) -> list[Answer]:
    """What each picture of ``split`` shows, in order.

    ``path``: of the artifact, for messages.

    Raises:
        BadInput: no classifier (detection, one logit, multi-label).
        AnswerNo: NaN or infinite outputs.
    """
    need_classifier(runner.task, str(path), "class to name")
    preprocessing = preprocessing_of(runner, None, config.stated, str(path), progress)
    if (note := channels_note(split.image(0), preprocessing.channels)) is not None:
        progress.say(note)
    found: list[Answer] = []
    with progress.task("predict", total=len(split), unit="pictures") as task:
        for rows in _probabilities(runner, split, preprocessing, config.batch, str(path), progress):
            for row in rows:
                found.append(Answer(split.file_name(len(found)) or "", _top(row, runner.classes, config.top)))
            task.advance(len(rows))
    return found


def _probabilities(
    runner: Runner, split: Split, preprocessing: Preprocessing, batch: int, name: str, progress: Progress
) -> Iterator[np.ndarray]:
    """Batches of float64 ``[n, C]`` probabilities; softmax is applied unless the outputs are probabilities already."""
    from scipy.special import softmax

    fixed = fed_batch(runner, batch)
    is_softmax: bool | None = None
    for x, _ in split.batches(fixed or batch, preprocessing):
        count = len(x)
        x = filled(x, fixed or 0)
        rows = runner(x)
        _check(rows, len(x), name, runner.classes)
        rows = rows[:count].astype(np.float64)
        if is_softmax is None:
            is_softmax = bool(rows.min() >= 0 and np.abs(rows.sum(axis=1) - 1).max() <= _SUMS_TO_ONE)
            if is_softmax:
                progress.say(f"{name}: its outputs are probabilities already, no softmax is applied")
        yield rows if is_softmax else softmax(rows, axis=1)


def _check(rows: np.ndarray, count: int, name: str, classes: tuple[str, ...] | None) -> None:
    if rows.ndim != 2 or len(rows) != count:
        raise BadInput(
            f"{name} is no classifier",
            got=f"outputs of shape {list(rows.shape)} for {count} pictures",
            expected="[N, C]",
            fix="Detection and segmentation models cannot predict yet.",
        )
    if rows.shape[1] == 1:
        raise one_logit(name)
    if classes is not None and len(classes) != rows.shape[1]:
        raise BadInput(f"{name}: {len(classes)} class names for {rows.shape[1]} outputs", fix="Export it again.")
    if not np.isfinite(rows).all():
        raise AnswerNo(f"{name}: NaN or infinite outputs", fix="Check its weights with `deploykit inspect`.")
    if rows.size >= _SURE_OF_SIGMOID and looks_multi_label(rows):
        raise multi_label(name, "picture")


def _top(row: np.ndarray, classes: tuple[str, ...] | None, top: int) -> tuple[tuple[str, int, float], ...]:
    best = np.argsort(-row, kind="stable")[:top].tolist()
    return tuple((classes[i] if classes else str(i), i, float(row[i])) for i in best)


def annotated_names(files: Sequence[str], folder: Path, force: bool) -> list[Path]:
    """Names of the annotated copies; names that repeat get a number.

    Raises:
        BadInput: the folder cannot be, a copy exists, or one would overwrite a picture.
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--annotate {folder} is no folder")
    make_folder(folder) if folder.is_dir() else check_parent(folder)  # a new one is made when there is what to write
    originals = {Path(file).resolve() for file in files}
    copies: list[Path] = []
    taken: set[str] = set()
    for file in files:
        stem = Path(file).stem
        name, number = f"{stem}.png", 2
        while name.lower() in taken:
            name, number = f"{stem}-{number}.png", number + 1
        taken.add(name.lower())
        copies.append(folder / name)
    for copy in copies:
        if copy.resolve() in originals:
            raise BadInput(f"{copy} is one of the pictures", fix="Choose another folder for --annotate.")
        if copy.exists() and not force:
            raise BadInput(f"{copy} exists", fix="Choose another folder for --annotate, or pass --force.")
    return copies


def annotate(answers: Sequence[Answer], copies: Sequence[Path], folder: Path, progress: Progress) -> None:
    """Write ``copies`` of the pictures into ``folder``, each with its best answer drawn below it."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise from_os_error(error, f"cannot write {folder}") from error
    with progress.task("annotate", total=len(copies), unit="pictures") as task:
        for answer, copy in zip(answers, copies, strict=True):
            name, _, probability = answer.top[0]
            picture = labelled(read_image(answer.file), f"{name} {percent(probability, 1)}")
            with atomic_path(copy) as temporary:
                picture.save(temporary, format="PNG")
            task.advance()
