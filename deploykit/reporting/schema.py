"""The report's shape, ``deploykit.report/2``: what ``report.json`` holds, field by field.

Ratios are 0…1, ``_pt`` are percentage points (a drop is positive when worse), paths are relative to the report. What is
not known is null. :data:`SCHEMA_FILE` is the JSON Schema made from these models, for readers in other languages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from deploykit.base.targets import TARGETS, Precision, target_names
from deploykit.base.task import Task
from deploykit.reporting.part import (
    Count,
    InsidePath,
    NotNegative,
    Part,
    Points,
    Positive,
    Ratio,
    RelativePath,
    ordered,
)
from deploykit.reporting.quality import Accuracy, JudgedAmong, Parity, Quality, Verdict, quality_of

SCHEMA: Final = "deploykit.report/2"
SCHEMA_FILE = Path(__file__).with_name("report.schema.json")
Status = Literal["ok", "unsure", "failed", "skipped"]


class Data(Part):
    """What accuracy was measured on."""

    name: str
    split: str
    n: Count
    sha256: str


class Step(Part):
    """One step of a variant's chain, in order: what was done, and the command that does it again."""

    stage: str
    command: str | None = None
    output: RelativePath | None = None
    sha256: str | None = None
    config: dict[str, Any] | None = None


class ArtifactFile(Part):
    """The file that was measured; bytes count its external data too."""

    path: RelativePath
    sha256: str
    bytes: Count


class Of(Part):
    """Which measurement a speed-up speaks of."""

    scenario: str
    batch: Annotated[int, Field(ge=1)]
    threads: Annotated[int, Field(ge=1)] | None = None
    timed: Literal["compute", "end_to_end"]
    clock: Literal["host", "device"]

    @property
    def key(self) -> Of:
        """What was timed, without the numbers: of a :class:`Measurement`."""
        return Of(**{name: getattr(self, name) for name in Of.model_fields})


class Measurement(Of):
    """Latency in one scenario, from pooled raw samples; ``n`` timed calls in ``blocks`` blocks.

    ``p90_bound_ms`` and ``p99_bound_ms`` hold with 99 % confidence (LoadGen's early stopping); null with too few calls.
    ``energy_mj`` is that of one image. Of ``server``, latencies count from the scheduled time, ``throughput_per_s`` is the
    highest rate of arrivals that kept ``latency_bound_ms`` at p99, and ``n`` are the requests at that rate.
    """

    n: Count
    warmup: Count | None = None
    blocks: Count | None = None
    p50_ms: Positive
    p50_ms_low: Positive | None = None
    p50_ms_high: Positive | None = None
    p90_ms: Positive | None = None
    p99_ms: Positive | None = None
    p90_bound_ms: Positive | None = None
    p99_bound_ms: Positive | None = None
    mean_ms: Positive | None = None
    throughput_per_s: Positive | None = None
    energy_mj: NotNegative | None = None
    latency_bound_ms: Positive | None = None
    sweep: Literal["batch", "threads"] | None = None
    samples_file: InsidePath | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        ordered("p50_ms, p90_ms, p99_ms", self.p50_ms, self.p90_ms, self.p99_ms)
        ordered("p50_ms_low, p50_ms, p50_ms_high", self.p50_ms_low, self.p50_ms, self.p50_ms_high)
        return self


class Speedup(Part):
    """The paired ratio of the baseline's time to this variant's: above 1 is faster."""

    estimate: Positive
    low: Positive | None = None
    high: Positive | None = None
    of: Of

    @model_validator(mode="after")
    def _check(self) -> Self:
        ordered("speedup low, high", self.low, self.high)
        return self


class Attachment(Part):
    """A file that belongs to a variant (a profile, a log)."""

    title: str
    kind: str
    file: InsidePath


MEASURED: Final = frozenset(
    [
        "created",
        "environment",
        "noise_floor_ratio",
        "stop_reason",
        "conditions",
        "warnings",
        "pareto",
        "pick",
        "cold_start_ms",
        "peak_memory_bytes",
        "device_memory_bytes",
        "builds",
        "measurements",
        "speedup",
        "against",
        "attachments",
        "notes",
    ]
)
"""Fields of a report and of its variants that differ between runs: dates, times, memory, and what hangs on them."""
OTHER_SIDE = "@base"
"""The variant on the other side of a comparison is called ``NAME@base``; it is measured in the same rounds."""


class Against(Part):
    """A variant compared with the one of the same name on the other side, measured beside it (``--against``)."""

    name: str
    speedup: Speedup | None = None
    drop_pt: Points | None = None
    drop_pt_low: Points | None = None
    drop_pt_high: Points | None = None
    drop_interval: Literal["bootstrap", "score", "exact"] | None = None
    agreement: Ratio | None = None
    negative_flips: Ratio | None = None
    mcnemar_p: Ratio | None = None


def _known(target: str) -> str:
    names = target_names()
    if target not in names:
        raise ValueError(f"got {target!r}, expected one of {', '.join(names)}")
    return target


class Variant(Part):
    """One thing that was measured, or the reason why not.

    ``failed`` and ``unsure`` speak of its answers: where it could be run, it was timed all the same. ``accepted`` says
    that a person takes such a one; its status stays. The fields of :data:`MEASURED` come last: all before them is the
    same on every run.
    """

    name: Annotated[str, Field(min_length=1)]
    target: Annotated[str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(TARGETS)})]
    precision: Precision | None = None
    steps: list[Step] = Field(default_factory=list)
    status: Status
    reason: str | None = None
    accepted: bool = False
    artifact: ArtifactFile | None = None
    params: Count | None = None
    macs: Count | None = None
    quality: Quality | None = None
    judged_among: JudgedAmong | None = None
    accuracy: Accuracy | None = None
    parity: Parity | None = None
    verdict: Verdict | None = None
    audit: dict[str, Any] | None = None
    cold_start_ms: NotNegative | None = None
    peak_memory_bytes: Count | None = None
    device_memory_bytes: Count | None = None
    builds: Annotated[int, Field(ge=1)] | None = None
    measurements: list[Measurement] = Field(default_factory=list)
    speedup: Speedup | None = None
    against: Against | None = None
    attachments: list[Attachment] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.status != "ok" and not self.reason:
            raise ValueError(f"variant {self.name!r} is {self.status} without a reason")
        if self.quality is None and self.accuracy is not None:
            self.quality = quality_of(self.accuracy)
        return self

    @property
    def usable(self) -> bool:
        """Whether it may be deployed as far as its status goes: it is ok, or a person took it as it is."""
        return self.status == "ok" or (self.accepted and self.status in ("unsure", "failed"))


class Pick(Part):
    """The variant to deploy, and why."""

    name: str
    why: str


class Budget(Part):
    """What the pick was held to."""

    max_drop_pt: NotNegative | None = None


class Report(Part):
    """The whole report."""

    schema_: Literal["deploykit.report/2"] = Field(alias="schema")
    task: Task = "classify"
    recipe: str | None = None
    data: Data | None = None
    ci_level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    seed: int = 0
    baseline: str | None = None
    against: str | None = None
    budget: Budget | None = None
    variants: Annotated[list[Variant], Field(min_length=1)]
    created: str
    environment: dict[str, Any] = Field(default_factory=dict)
    noise_floor_ratio: NotNegative | None = None
    stop_reason: str | None = None
    conditions: dict[str, Any] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
    pareto: list[str] = Field(default_factory=list)
    pick: Pick | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [variant.name for variant in self.variants]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"variant names occur twice: {', '.join(twice)}")
        named = {"baseline": [self.baseline] if self.baseline else [], "pareto": self.pareto}
        named["against"] = [one.against.name for one in self.variants if one.against]
        named["pick"] = [self.pick.name] if self.pick else []
        for place, wanted in named.items():
            for name in wanted:
                if name not in names:
                    raise ValueError(f"{place} names {name!r}, which is no variant; variants: {', '.join(names)}")
        picked = self.variant(self.pick.name) if self.pick else None
        if picked is not None and not picked.usable:
            raise ValueError(f"pick names {picked.name!r}, whose status is {picked.status}")
        return self

    def repeatable(self) -> bytes:
        """What the same command says again byte for byte: all but times, what they decide, and the machine's state."""
        fields = {key: value for key, value in self.plain().items() if key not in MEASURED}
        fields["variants"] = [{key: one[key] for key in one if key not in MEASURED} for one in fields["variants"]]
        return json.dumps(fields, ensure_ascii=False).encode()

    def variant(self, name: str | None) -> Variant | None:
        """The variant of this name, or None."""
        return next((one for one in self.variants if one.name == name), None)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a report, as it is shipped in :data:`SCHEMA_FILE`."""
    schema = Report.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA, **schema}
