"""Configuration of evaluation."""

from __future__ import annotations

from typing import Annotated

from pydantic import AliasChoices, Field

from deploykit.config.command import Argument, Command, output
from deploykit.config.flag import Flag, Panel
from deploykit.config.options import (
    AllowCode,
    Batch,
    CorruptionImages,
    Corruptions,
    Device,
    FileFlags,
    Level,
    Metrics,
    Seed,
    SkipBroken,
    Split,
    Threads,
    data_help,
)


class EvaluateConfig(FileFlags):
    """Accuracy of artifacts on the same pictures; ``data`` is None only where the saved logits of a run folder are judged."""

    data: str | None = Field(
        default=None,
        description=data_help("The pictures; left out only where the saved logits of a run folder are judged again"),
    )
    split: Split = "test"
    images: Annotated[int | None, Flag(old="--limit")] = Field(
        default=None,
        ge=1,
        description="Images at most; default: all.",
        validation_alias=AliasChoices("images", "limit"),
    )
    skip_broken: SkipBroken = False
    baseline: Annotated[str | None, Panel("Judging")] = Field(
        default=None, description="Name of the artifact the others are compared with; default: the first."
    )
    metrics: Metrics = ()
    ci_level: Level = 0.95
    corruptions: Corruptions = False
    corruption_images: CorruptionImages = 500
    seed: Seed = 0
    batch: Annotated[Batch, Panel("Running")] = 64
    threads: Threads = None
    device: Device = "auto"
    allow_code: AllowCode = False


COMMAND = Command(
    "Measure the accuracy of models and engines on the same pictures, and what changed against a baseline.",
    EvaluateConfig,
    (
        Argument(
            "artifacts",
            "What to evaluate: [NAME=]PATH[@TARGET[:key=value,…]]; or a run folder, to judge its saved logits again.",
            metavar="ARTIFACT",
            many=True,
        ),
        output("Folder for the report and the logits; default: nothing is written."),
    ),
    stored=True,
)
