"""What pictures show, by any artifact, with the artifact's own preprocessing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.base.atomic import check_parent, make_folder
from deploykit.base.command_result import Result
from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.base.runner import fed_batch
from deploykit.config.keywords import by_keywords
from deploykit.config.predict import PredictConfig
from deploykit.engines.batching import filled

if TYPE_CHECKING:
    from deploykit.base.preprocessing import Preprocessing
    from deploykit.base.runner import Runner
    from deploykit.base.spec import Spec

_SUMS_TO_ONE = 1e-3
_SURE_OF_SIGMOID = 16  # so many outputs in [0, 1] are no accident


@dataclass(frozen=True)
class Answer:
    """What one picture shows.

    Attributes:
        file: the picture.
        top: (name, index of the output, probability 0…1), the most probable first.
    """

    file: str
    top: tuple[tuple[str, int, float], ...]


@dataclass(frozen=True)
class PredictResult(Result):
    """The answers, in the order of the pictures; ``annotated``: the pictures written."""

    artifact: str
    target: str
    answers: tuple[Answer, ...]
    annotated: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "artifact": self.artifact,
            "target": self.target,
            "predictions": [
                {
                    "file": one.file,
                    "top": [
                        {"class": name, "index": index, "probability": probability}
                        for name, index, probability in one.top
                    ],
                }
                for one in self.answers
            ],
            "annotated": list(self.annotated),
        }

    def summary(self) -> str:
        """One line for each picture."""
        return "\n".join(
            f"{one.file}: " + ", ".join(f"{name} {100 * p:.1f} %" for name, _, p in one.top) for one in self.answers
        )


@by_keywords(PredictConfig)
def predict(
    artifact: Spec | str | Path,
    images: Sequence[str | Path],
    annotate: Path | str | None = None,
    config: PredictConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> PredictResult:
    """Name what pictures show.

    Args:
        artifact: ``[NAME=]PATH[@TARGET[:key=value,…]]`` of a classifier.
        images: picture files, and folders whose pictures are all taken.
        annotate: an existing or new folder for copies with the label drawn on them, or None.
        config: how many classes are told, and how the engine runs.
        force: annotated copies may replace files (never the pictures themselves).
        progress: shows one bar.

    Raises:
        BadInput: no pictures, a picture that cannot be read, no classifier (detection, one logit, multi-label), or an
            annotated copy that exists.
        AnswerNo: NaN or infinite outputs.
    """
    from deploykit.data.source import Split
    from deploykit.data.stores import Files, Part, readable
    from deploykit.engines import open_runner, resolve

    config = config or PredictConfig()
    spec = resolve(artifact, config.device)
    paths = _pictures(images)
    part = readable(Part(Files(paths), np.zeros(len(paths), dtype=np.int64)), config.skip_broken, progress)
    split = Split("pictures", (), part.store, np.arange(len(part.labels)), part.labels, progress)
    files = [split.file_name(i) or "" for i in range(len(split))]
    annotate = None if annotate is None else Path(annotate)
    copies = _copies(files, annotate, force) if annotate is not None else []
    answers: list[Answer] = []
    with open_runner(
        spec, threads=config.threads, device=config.device, size=config.size, allow_code=config.allow_code
    ) as runner:
        preprocessing = _preprocessing(runner, spec.path, config.size, progress)
        probabilities = _probabilities(runner, split, preprocessing, config.batch, str(spec.path), progress)
        with progress.task("predict", total=len(files), unit="pictures") as task:
            for rows in probabilities:
                for row in rows:
                    answers.append(Answer(files[len(answers)], _top(row, runner.classes, config.top)))
                task.advance(len(rows))
        target = runner.target
    if annotate is not None:
        _annotate(answers, copies, annotate, progress)
    return PredictResult(str(spec.path), target, tuple(answers), tuple(str(copy) for copy in copies))


def _pictures(images: Sequence[str | Path]) -> list[str]:
    """Files as they are, folders as the pictures below them.

    Raises:
        BadInput: nothing named, a missing path, or a folder without pictures.
    """
    from deploykit.data.formats.folders import pictures_below

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


def _preprocessing(runner: Runner, path: Path, size: int | None, progress: Progress) -> Preprocessing:
    from deploykit.base.preprocessing import Preprocessing

    if runner.preprocessing is not None:
        return runner.preprocessing
    spec = runner.inputs[0]
    sides = spec.shape[1:3] if spec.layout == "NHWC" else spec.shape[-2:]
    own = (sides[0], sides[1]) if len(sides) == 2 and all(isinstance(side, int) for side in sides) else None
    height_width: Any = (size, size) if size is not None else own
    if height_width is None:
        raise BadInput(f"{path} does not say how large its input is", fix="Name the size in pixels with --size.")
    chosen = Preprocessing(height_width, embedded=spec.layout == "NHWC")
    progress.warn(
        f"{path} carries no preprocessing: pictures are resized to {height_width[0]} × {height_width[1]} and "
        f"normalised with ImageNet's mean and deviation; if it was trained otherwise the answers are wrong"
    )
    return chosen


def _probabilities(
    runner: Runner, split: Any, preprocessing: Preprocessing, batch: int, name: str, progress: Progress
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
    from deploykit.evaluation.logits import looks_multi_label, multi_label, one_logit

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


def _copies(files: Sequence[str], folder: Path, force: bool) -> list[Path]:
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


def _annotate(answers: Sequence[Answer], copies: Sequence[Path], folder: Path, progress: Progress) -> None:
    from deploykit.base.atomic import atomic_path
    from deploykit.base.errors import from_os_error
    from deploykit.data.images import labelled, read_image

    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise from_os_error(error, f"cannot write {folder}") from error
    with progress.task("annotate", total=len(copies), unit="pictures") as task:
        for answer, copy in zip(answers, copies, strict=True):
            name, _, probability = answer.top[0]
            picture = labelled(read_image(answer.file), f"{name} {100 * probability:.1f} %")
            with atomic_path(copy) as temporary:
                picture.save(temporary, format="PNG")
            task.advance()
