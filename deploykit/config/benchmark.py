"""Configurations of verification, evaluation and benchmarks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from deploykit.config.common import Config


class VerifyConfig(Config):
    """Parity of two artifacts.

    Attributes:
        data: pictures to compare on; None: the samples of either file, else seeded synthetic pictures (said).
        split: of the data.
        limit: number of pictures at most.
        batches: batch sizes to run; those a fixed-batch engine cannot take are left out and said.
        precision: whose budget applies; None: the second artifact's.
        bisect: on a failure find the first layer where they part.
        require_real: synthetic pictures are an error.
        size: input size where no file carries it.
        threads: of both runners.
        device: of torch runners.
        allow_code: ``module:…`` models and data may run.
        seed: of synthetic pictures.
    """

    data: str | None = None
    split: Literal["train", "select", "test"] = "test"
    limit: int = Field(256, ge=1)
    batches: tuple[int, ...] = (1, 2, 8)
    precision: Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8"] | None = None
    bisect: bool = False
    require_real: bool = False
    size: int | None = Field(None, ge=1)
    threads: int | None = Field(None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    allow_code: bool = False
    seed: int = Field(0, ge=0)


class EvaluateConfig(Config):
    """Accuracy of artifacts on the same pictures.

    Attributes:
        data: a data name; None only where the saved logits of a run folder are judged again.
        split: of the data.
        batch: per inference call.
        limit: number of pictures at most; None: all.
        baseline: name of the variant the others are compared with; None: the first.
        metrics: custom metrics ``module:function(logits, labels) -> float``.
        ci_level: of all intervals.
        size: input size where the artifact carries none.
        threads: of the runner.
        device: of torch runners.
        allow_code: ``module:…`` models, data and metrics may run.
        skip_broken: leave out pictures that cannot be read, naming them.
        corruptions: evaluate noisy, blurred, brightened and JPEG-compressed pictures as well.
        corruption_images: number of pictures for that, each at every strength of every corruption.
        seed: of the bootstrap and the corruptions.
    """

    data: str | None = None
    split: Literal["train", "select", "test"] = "test"
    batch: int = Field(64, ge=1)
    limit: int | None = Field(None, ge=1)
    baseline: str | None = None
    metrics: tuple[str, ...] = ()
    corruptions: bool = False
    corruption_images: int = Field(500, ge=1)
    ci_level: float = Field(0.95, gt=0.5, lt=1)
    size: int | None = Field(None, ge=1)
    threads: int | None = Field(None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    allow_code: bool = False
    skip_broken: bool = False
    seed: int = Field(0, ge=0)


class BenchmarkConfig(Config):
    """Latency, parity and accuracy of variants, measured together.

    Attributes:
        data: for accuracy, parity and the pictures that are timed.
        baseline: name of the variant that speed-ups and drops refer to; None: ``fp32`` where present, else the first.
        batch: of the timed calls.
        threads: of each worker.
        until: stop when every speed-up interval is narrower than ± this ratio.
        max_time_s: stop then at the latest; the report says which it was.
        min_blocks: of each variant, before ``until`` is looked at.
        block_ms: a block is at least five calls and this long.
        end_to_end: measure preprocessing and copies too, beside compute only.
        max_drop_pt: accuracy budget of the pick, in percentage points.
        limit: number of pictures for accuracy; None: all.
        ci_level: of all intervals.
        eval_batch: batch of the accuracy runs.
        device: of torch runners.
        size: input size where an artifact carries none.
        metrics: custom metrics.
        allow_code: ``module:…`` may run.
        skip_broken: leave out pictures that cannot be read.
        scenarios: besides ``single_stream``, which is always measured: ``multi_stream``, ``offline``, ``server``.
        multi_stream_images: pictures of one ``multi_stream`` query.
        server_bound_ms: what the p99 of ``server`` must keep; its highest such rate is searched for.
        sweeps: ``batch`` (1, 2, 4 … until the throughput gains less than 5 % or memory ends) and ``threads`` (1, 2, 4 … up
            to the cores).
        builds: how often each variant is loaded anew, in a process of its own; blocks alternate between them.
        corruptions: evaluate noisy, blurred, brightened and JPEG-compressed pictures as well.
        corruption_images: number of pictures for that, each at every strength of every corruption.
        against: run folder, bundle or git revision whose variants are measured beside those of the same name.
        seed: of block order, arrivals, corruptions and bootstrap.
    """

    data: str
    split: Literal["train", "select", "test"] = "test"
    baseline: str | None = None
    batch: int = Field(1, ge=1)
    threads: int = Field(1, ge=1)
    until: float = Field(0.02, gt=0, lt=1)
    max_time_s: float = Field(60.0, gt=0)
    min_blocks: int = Field(20, ge=2)
    block_ms: float = Field(50.0, gt=0)
    end_to_end: bool = True
    max_drop_pt: float = Field(1.0, ge=0)
    limit: int | None = Field(None, ge=1)
    ci_level: float = Field(0.95, gt=0.5, lt=1)
    eval_batch: int = Field(64, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    size: int | None = Field(None, ge=1)
    metrics: tuple[str, ...] = ()
    allow_code: bool = False
    skip_broken: bool = False
    scenarios: tuple[Literal["single_stream", "multi_stream", "offline", "server"], ...] = ()
    multi_stream_images: int = Field(8, ge=1)
    server_bound_ms: float = Field(15.0, gt=0)
    sweeps: tuple[Literal["batch", "threads"], ...] = ()
    builds: int = Field(1, ge=1, le=16)
    corruptions: bool = False
    corruption_images: int = Field(500, ge=1)
    against: str | None = None
    seed: int = Field(0, ge=0)
