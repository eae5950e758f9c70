"""Configuration of a benchmark."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field

from deploykit.config.command import Argument, Command, output
from deploykit.config.flag import Flag, Panel
from deploykit.config.options import (
    Accept,
    AllowCode,
    Batch,
    CorruptionImages,
    Corruptions,
    Device,
    FileFlags,
    Level,
    Metrics,
    MinAgreement,
    MinSnrDb,
    Seed,
    Shapes,
    SkipBroken,
    Split,
    data_help,
)
from deploykit.config.texts import ratio


class BenchmarkConfig(FileFlags):
    """Latency, parity and accuracy of variants, measured together."""

    data: str | None = Field(
        default=None,
        description=data_help("For accuracy, parity and the images that are timed; else random input, and no accuracy"),
    )
    shapes: Shapes = Field(default_factory=dict)
    split: Split = "test"
    skip_broken: SkipBroken = False
    baseline: str | None = Field(
        default=None, description="Name of the variant the others are compared with; default: fp32, else the first."
    )
    against: Annotated[str | None, Flag(metavar="REF")] = Field(
        default=None,
        description="Run folder, bundle (.zip, .tar), or git REVISION[:PATH]: measure its variants of the same names too.",
    )
    max_drop_pt: Annotated[float, Flag("--max-drop", old="--max-drop-pt")] = Field(
        default=1.0, ge=0, description="How much top-1 the pick may lose, in percentage points."
    )
    min_agreement: MinAgreement = None
    min_snr_db: Annotated[MinSnrDb, Flag("--min-snr-db")] = None
    accept: Accept = False
    accept_variants: Annotated[tuple[str, ...], Flag("--accept-variant", metavar="NAME")] = Field(
        default=(), description="The same of one variant."
    )
    batch: Annotated[Batch, Panel("Timing")] = 1
    threads: int = Field(default=1, ge=1, description="CPU threads of each timed variant.")
    until: Annotated[float, Flag(metavar="RATIO", parse=ratio)] = Field(
        default=0.02,
        gt=0,
        lt=1,
        description="Stop when every speed-up interval is narrower than plus or minus this: 0.01, 1%, ±1%.",
    )
    max_time_s: Annotated[float, Flag("--max-time")] = Field(
        default=60.0, gt=0, description="Stop timing after so many seconds at the latest; the report says which it was."
    )
    min_blocks: int = Field(default=20, ge=2, description="Blocks of each variant at least, before --until counts.")
    block_ms: float = Field(default=50.0, gt=0, description="Length of a block in ms; at least 5 calls.")
    end_to_end: Annotated[bool, Flag("--end-to-end/--compute-only")] = Field(
        default=True, description="Time preprocessing and copies too."
    )
    builds: int = Field(
        default=1,
        ge=1,
        le=16,
        description="Load each variant so many times, in a process of its own; blocks alternate between them.",
    )
    scenarios: Annotated[
        tuple[Literal["single_stream", "multi_stream", "offline", "server"], ...],
        Flag("--scenario"),
        Panel("Scenarios and sweeps"),
    ] = Field(default=(), description="What is measured besides single_stream, which always is.")
    multi_stream_images: int = Field(default=8, ge=1, description="Pictures of one multi_stream query.")
    server_bound_ms: float = Field(
        default=15.0, gt=0, description="What p99 keeps in the server scenario, whose highest such rate is searched."
    )
    sweeps: Annotated[tuple[Literal["batch", "threads"], ...], Flag("--sweep")] = Field(
        default=(),
        description="1, 2, 4 …: batch until the throughput gains less than 5 % or memory ends, threads up to the cores.",
    )
    images: Annotated[int | None, Panel("Accuracy"), Flag(old="--limit")] = Field(
        default=None,
        ge=1,
        description="Images for accuracy at most; default: all.",
        validation_alias=AliasChoices("images", "limit"),
    )
    eval_batch: int = Field(default=64, ge=1, description="Batch size of the accuracy runs.")
    metrics: Metrics = ()
    ci_level: Level = 0.95
    corruptions: Corruptions = False
    corruption_images: CorruptionImages = 500
    device: Annotated[Device, Panel("Running")] = "auto"
    seed: Seed = 0
    allow_code: AllowCode = False

    @property
    def timed(self) -> tuple[str, ...]:
        """The calls that are timed, the primary one first."""
        return ("compute", "end_to_end") if self.end_to_end else ("compute",)


COMMAND = Command(
    "Verify, judge and time models and engines together, and say which one to deploy.",
    BenchmarkConfig,
    (
        Argument(
            "artifacts",
            "What to measure: [NAME=]PATH[@TARGET[:key=value,…]], or a run folder, to measure again.",
            metavar="ARTIFACT",
            many=True,
        ),
        output("Run folder for report, samples and logits; default: nothing is written."),
    ),
    stored=True,
)
