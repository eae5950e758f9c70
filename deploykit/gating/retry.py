"""Measure on, where limits on speed are undecided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from deploykit.base.artifact import artifact_sha256, read_manifest
from deploykit.base.errors import BadInput
from deploykit.base.progress import Progress
from deploykit.base.spec import Spec, parse_spec
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.config.common import build
from deploykit.config.gate import GateConfig, GatePolicy
from deploykit.config.registries import LIMITS
from deploykit.config.stage_file import read_stage
from deploykit.gating.evidence import Evidence, read_evidence
from deploykit.gating.question import CANNOT_TELL
from deploykit.gating.result import Gate
from deploykit.reporting.schema import OTHER_SIDE, Report

if TYPE_CHECKING:
    Benchmark = Callable[[Sequence[Spec], Path, BenchmarkConfig], Report]

SPEED = (
    "min_speedup",
    "max_latency_ratio",
    "max_latency_ratio_vs_baseline",
    *(one.name for one in LIMITS.values() if one.of_machine),
)
FEW_IMAGES = 16


def speed_undecided(gate: Gate) -> list[str]:
    """Variants with an undecided limit on speed, the only kind that more measuring of the same images can settle."""
    found = [
        one.variant
        for one in gate.findings
        if one.verdict == CANNOT_TELL and one.rule in SPEED and one.value is not None
    ]
    return list(dict.fromkeys(found))


def measure_again(
    place: Path,
    evidence: Evidence,
    names: list[str],
    policy: GatePolicy,
    config: GateConfig,
    number: int,
    benchmark: Benchmark,
    progress: Progress,
) -> Evidence:
    """Time the variants and what they are divided by once more, in new processes.

    Args:
        place: of the report whose artifacts are measured.
        evidence: of that report.
        names: variants to measure.
        policy: tells the reference and the measurement.
        config: limit of time, and the data where the run folder does not tell it.
        number: of the retry, from 1; part of the seed.
        benchmark: measures these artifacts into this folder and returns the report.
        progress: where it shows.

    Returns:
        What the new measurement found.

    Raises:
        BadInput: the artifacts are not there or were changed, or the data is not known.
    """
    folder = place if place.is_dir() else place.parent
    asked, specs = _as_measured(folder, evidence, config)
    baseline = evidence.baseline
    beside = [name + OTHER_SIDE for name in names if name + OTHER_SIDE in evidence.variants]
    wanted = dict.fromkeys([baseline, policy.reference, *names, *beside])
    chosen = [_checked(specs, evidence, name) for name in wanted if name is not None]
    again = asked.but(
        baseline=baseline,
        max_time_s=config.retry_time_s,
        until=0.001,  # go on to the limit of time: what decides is the gate's level, not the report's
        images=min(asked.images or FEW_IMAGES, FEW_IMAGES),  # accuracy is known already
        seed=asked.seed + number,
        accept_variants=(),  # of a status nothing is asked here, and they may be others than those measured
        **_asked_measurement(policy),
    )
    with TemporaryDirectory(prefix="deploykit-gate-") as scratch:
        report = benchmark(chosen, Path(scratch) / "again", again)
        for variant in report.variants:
            if not variant.measurements:
                progress.warn(f"{variant.name} {variant.status} when measured again: {variant.reason}")
        return read_evidence(Path(scratch) / "again", policy.measurement, progress)


def _asked_measurement(policy: GatePolicy) -> dict[str, int]:
    choice = policy.measurement
    if choice is None:
        return {}
    return {key: getattr(choice, key) for key in ("batch", "threads") if getattr(choice, key) is not None}


def _as_measured(folder: Path, evidence: Evidence, config: GateConfig) -> tuple[BenchmarkConfig, dict[str, Spec]]:
    """The configuration of the measurement and the artifacts by name: of the run's stage file, else of the manifest."""
    stage = folder / "stages" / "all.benchmark.yaml"
    if stage.is_file():
        arguments = read_stage(stage, "benchmark")
        specs = {spec.name: spec for spec in map(parse_spec, arguments["artifacts"])}
        fields = dict(arguments["config"])
    else:
        manifest = read_manifest(folder / "report.json")
        if manifest is None or manifest.stage != "benchmark" or not manifest.config.get("artifacts"):
            raise BadInput(
                f"{folder} does not tell how it was measured", fix="Measure again with deploykit benchmark -o, or run."
            )
        fields = {key: value for key, value in manifest.config.items() if key != "artifacts"}
        specs = {spec.name: spec for spec in map(parse_spec, manifest.config["artifacts"])}
        for name, variant in evidence.variants.items():
            if name in specs and variant.artifact:
                specs[name] = replace(specs[name], path=folder / variant.artifact.path)
    if config.data is not None:
        fields["data"] = config.data
    return build(BenchmarkConfig, fields, str(stage if stage.is_file() else folder)), specs


def _checked(specs: dict[str, Spec], evidence: Evidence, name: str) -> Spec:
    """The artifact to measure again, which must be the one that was measured."""
    spec = specs.get(name)
    if spec is None or not spec.path.is_file():
        raise BadInput(
            f"{name} cannot be measured again: its artifact is not there",
            got=str(spec.path) if spec else None,
            fix="Gate the whole run folder, or leave out --retry.",
        )
    stated = evidence.variants[name].artifact
    if stated and artifact_sha256(spec.path) != stated.sha256:
        raise BadInput(f"{name} cannot be measured again: {spec.path} was changed since it was measured")
    return spec
