"""Building a TensorRT plan: what the machine allows, the graph in the precision asked for, the build, the manifest."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from deploykit.base.artifact import Manifest, write_artifact, write_manifest
from deploykit.base.atomic import JsonObject
from deploykit.base.errors import BadInput, Unavailable
from deploykit.base.progress import Progress
from deploykit.base.targets import TENSORRT, TENSORRT_RTX
from deploykit.building.engine_graph import prepared_graph
from deploykit.building.fp16_beside import build_beside, wants_beside
from deploykit.building.race import fastest

if TYPE_CHECKING:
    from deploykit.config.build import BuildConfig
    from deploykit.engines.tensorrt.build import Plan
    from deploykit.engines.tensorrt.hardware import Gpu
    from deploykit.engines.tensorrt.network import NetworkFacts
    from deploykit.engines.tensorrt.parse import Parsed
    from deploykit.engines.tensorrt.profiles import Profile
    from deploykit.engines.tensorrt.version import Api

UNFINISHED = "build (unfinished)"


def hardware(config: BuildConfig) -> Mapping[str, object]:
    """What of this machine shapes a plan: the GPU it is built on and the capabilities it is built for."""
    from deploykit.engines.tensorrt.build import capabilities
    from deploykit.engines.tensorrt.hardware import gpu_or_none
    from deploykit.engines.tensorrt.version import load

    api, gpu = load(config.target), gpu_or_none(config.device)
    named = capabilities(api, config, gpu)
    return {"gpu": asdict(gpu) if gpu else None, "compute_capabilities": list(named) or "portable"}


def build_file(
    source: Path, target: Path, config: BuildConfig, manifest: Manifest, force: bool, progress: Progress
) -> Manifest:
    """Build a plan, and one in fp16 beside an int8 one where that is asked for; write its manifest, which is returned.

    Raises:
        BadInput: the flavour or the network has no such thing.
        Unavailable: the build needs a GPU, and there is none.
        AnswerNo: the builder failed, or the precision asked for is not in the network.
    """
    described = build_engine(source, target, config, manifest, force, progress)
    facts = described.facts
    if wants_beside(config, facts["precision"]):
        found = build_beside(source, target, config, manifest, force, progress, build_engine)
        note = f"beside it {found['file']} in fp16 ({found['bytes'] / 1e6:.1f} MB): {found['why']}"
        described = replace(described, facts={**facts, "beside": found, "notes": [*facts["notes"], note]})
    write_manifest(target, described)
    return described


def build_engine(
    source: Path, target: Path, config: BuildConfig, manifest: Manifest, force: bool, progress: Progress
) -> Manifest:
    """Build ``source`` into the plan ``target``, whose manifest says unfinished until the caller writes the one returned.

    Returns the manifest to write when all that belongs to the build is there.
    """
    from deploykit.engines.tensorrt.hardware import gpu_or_none, make_current
    from deploykit.engines.tensorrt.network import check_precision, describe_network, refuse_up_cast, stated
    from deploykit.engines.tensorrt.parse import parse
    from deploykit.engines.tensorrt.profiles import make_profiles
    from deploykit.engines.tensorrt.version import load

    api, gpu = load(config.target), gpu_or_none(config.device)
    refuse_impossible(api, gpu, config)
    if gpu is not None:
        make_current(gpu.index)
    with TemporaryDirectory(prefix="deploykit-") as scratch:
        graph = prepared_graph(source, Path(scratch), config, progress)
        parsed = parse(api, graph.path)
        network = describe_network(api, parsed.network)
        precision, rest = stated(network)
        refuse_up_cast(config.precision, rest, source)
        accepted = check_precision(config.precision, network, config.allow_fallback, source, config.target)
        profiles = make_profiles(config.profiles, parsed.inputs(), config.batch)
        tf32 = config.precision == "tf32"
        started = time.perf_counter()
        plan, kept, raced = _best_of(api, parsed, profiles, config, gpu, target, progress)
        measured = {"build_s": round(time.perf_counter() - started, 3), **raced}
    notes = [
        *graph.notes,
        *([accepted] if accepted else []),
        *_stated_tf32(rest, tf32),
        *_portable(api, plan.content, target, gpu, config),
        *(f"the parser says: {one}" for one in parsed.warnings),
    ]
    facts: JsonObject = {
        "precision": "tf32" if precision == "fp32" and tf32 else precision,
        "float_precision": "tf32" if rest == "fp32" and tf32 else rest,
        "cast": graph.cast,
        "target": config.target,
        "bytes": len(plan.content),
        "library": {"package": api.flavour.package, "version": api.version},
        "settings": plan.settings,
        "network": network,
        **kept,
    }
    facts |= {"beside": None, "notes": notes}
    described = replace(graph.described(manifest, facts), measured=measured)
    # Under another stage until all of it is there: what ends before is ours, and made again.
    described = write_artifact(target, plan.content, replace(described, stage=UNFINISHED))
    described = replace(described, stage=manifest.stage)
    _attach_layers(target, network, force)
    return described


def _attach_layers(target: Path, network: NetworkFacts, force: bool) -> None:
    """The layers as the builder was given them, for the report."""
    from deploykit.reporting.attachments import table
    from deploykit.reporting.attachments.files import attach

    rows = [
        [row["name"], row["type"].lower(), row["precision"], ", ".join(row["nodes"])[:200]]
        for row in network["layers"]
        if row["type"] != "CONSTANT"
    ]
    note = "The network as the builder was given it; what it fuses, and in which order it runs, only the engine tells."
    columns = [{"name": name, "align": "left"} for name in ("layer", "type", "precision", "ONNX nodes")]
    attach(target, [table("Layers of the network", "build", columns, rows[:5000], note)], force=force)


def refuse_impossible(api: Api, gpu: Gpu | None, config: BuildConfig) -> None:
    """Refuse what this flavour or this machine cannot do, before any work.

    Raises:
        BadInput: the flavour has no such thing.
        Unavailable: it needs a GPU, and there is none.
    """
    from deploykit.engines.tensorrt.hardware import driver

    flavour = api.flavour
    for name, on in (("optimize", config.optimize != "none"), ("cuda-graph", config.cuda_graph)):
        if on:
            raise BadInput(f"{flavour.target} has no --{name}", fix="Leave it away, or name another --target.")
    if config.version_compatible and not flavour.lean_runtime:
        raise BadInput(
            f"{flavour.target} has no lean runtime to put into a version-compatible plan",
            fix=f"Leave --version-compatible away, or use --target {TENSORRT}.",
        )
    if config.hardware_compatible != "none" and flavour.ahead_of_time:
        raise BadInput(
            f"{flavour.target} has no hardware compatibility levels",
            fix="Name the GPUs with --compute-capability, or build a portable plan.",
        )
    if config.builds > 1 and config.strip:
        raise BadInput("--builds times the plans, which --strip leaves without weights", fix="Leave one of them away.")
    if gpu is not None:
        return
    needs = {"refit": config.refit, "strip": config.strip}
    wanted = [f"--{name}" for name, on in needs.items() if on] + (["--builds"] if config.builds > 1 else [])
    if flavour.ahead_of_time and not wanted:
        return
    try:
        driver()
    except Unavailable as error:
        what = f"{' and '.join(wanted)} of {flavour.target}" if wanted else f"a build with {flavour.target}"
        why = "compiles and times kernels on it" if "--builds" not in wanted else "has to time the plans"
        mend = (
            "Leave it away, or build on a machine with a GPU."
            if wanted
            else f"Build on the GPU that will run it, or use --target {TENSORRT_RTX}, which builds ahead of time."
        )
        raise Unavailable(f"{what} needs a GPU, because it {why}: {error.what}", fix=mend) from error


def _best_of(
    api: Api,
    parsed: Parsed,
    profiles: list[Profile],
    config: BuildConfig,
    gpu: Gpu | None,
    target: Path,
    progress: Progress,
) -> tuple[Plan, dict[str, object], dict[str, object]]:
    """Build as often as asked and keep the fastest; what was measured is kept for the next build.

    Returns the plan, what the manifest says of it, and what was measured.
    """
    from deploykit.engines.tensorrt import build as cache
    from deploykit.engines.tensorrt.build import build_plan

    with ExitStack() as stack:
        content, place = None, None
        if config.timing_cache and api.flavour.timing_cache and gpu is not None:
            place = cache.cache_file(api, gpu)
            content = stack.enter_context(cache.shared(place, progress))
        plans = []
        for number in range(config.builds):
            if config.builds > 1:
                progress.say(f"build {number + 1} of {config.builds}")
            # Measured tactics would make every build the same: only the first reads and fills the cache.
            given = content if number == 0 else (b"" if content is not None else None)
            plans.append(build_plan(api, parsed, profiles, config, gpu=gpu, timing_cache=given, progress=progress))
        if place is not None and plans[0].timing_cache is not None:
            cache.keep(place, plans[0].timing_cache)
    facts: dict[str, object] = {"timing_cache": place.name if place is not None else None}
    if len(plans) == 1:
        return plans[0], facts, {}

    best, times = fastest([plan.content for plan in plans], target, config)
    progress.say(f"build {best + 1} of {len(plans)} is the fastest")
    return plans[best], facts, {"builds_ms": times}


def _stated_tf32(rest: str, tf32: bool) -> list[str]:
    if rest != "fp32":
        return []
    return [f"fp32 products run in {'TF32 (10-bit mantissa)' if tf32 else 'full fp32; --precision tf32 allows TF32'}"]


def _portable(api: Api, content: bytes, target: Path, gpu: Gpu | None, config: BuildConfig) -> list[str]:
    from deploykit.engines.tensorrt.plan_file import header_of

    if not api.flavour.ahead_of_time or gpu is not None or config.compute_capabilities:
        return []
    named = ", ".join(header_of(content, target).capabilities)
    return [f"no GPU here: built portable, for compute capabilities {named}"]
