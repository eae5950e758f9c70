"""What pictures show, by any artifact, with the artifact's own preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploykit.base.atomic import JsonObject
from deploykit.base.command_result import Result
from deploykit.base.progress import SILENT, Progress
from deploykit.base.spec import Spec
from deploykit.config.keywords import by_keywords
from deploykit.config.predict import PredictConfig
from deploykit.reporting.format import percent

if TYPE_CHECKING:
    from deploykit.evaluation.predictions import Answer


@dataclass(frozen=True)
class PredictResult(Result):
    """The answers, in the order of the pictures; ``annotated``: the pictures written."""

    artifact: str
    target: str
    answers: tuple[Answer, ...]
    annotated: tuple[str, ...] = ()

    def to_dict(self) -> JsonObject:
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
            f"{one.file}: " + ", ".join(f"{name} {percent(p, 1)}" for name, _, p in one.top) for one in self.answers
        )


@by_keywords(PredictConfig, modules=("artifact",))
def predict(
    artifact: Spec | str | Path,
    images: Sequence[str | Path] | str | Path,
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
    from deploykit.engines import open_runner, resolve
    from deploykit.evaluation.predictions import annotate as draw
    from deploykit.evaluation.predictions import annotated_names, answers_of, split_of_files

    config = config or PredictConfig()
    spec = resolve(artifact, config.device)
    given = [images] if isinstance(images, str | Path) else images
    split = split_of_files(given, config, progress)
    folder = None if annotate is None else Path(annotate)
    files = [split.file_name(i) or "" for i in range(len(split))]
    copies = annotated_names(files, folder, force) if folder is not None else []
    with open_runner(
        spec, threads=config.threads, device=config.device, stated=config.stated, allow_code=config.allow_code
    ) as runner:
        answers = answers_of(runner, split, spec.path, config, progress)
        target = runner.target
    if folder is not None:
        draw(answers, copies, folder, progress)
    return PredictResult(str(spec.path), target, tuple(answers), tuple(str(copy) for copy in copies))
