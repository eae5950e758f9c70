"""Network definition → plan: the builder's settings and progress, a build that Ctrl-C ends, the timing cache."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit.base.atomic import write_bytes
from deploykit.base.errors import AnswerNo, BadInput, Unavailable, unknown
from deploykit.base.hashing import value_sha256
from deploykit.base.lock import alone_with
from deploykit.base.progress import Progress
from deploykit.base.targets import TENSORRT, TENSORRT_RTX
from deploykit.base.user_cache import cache_folder
from deploykit.engines.tensorrt.hardware import Gpu, make_current
from deploykit.engines.tensorrt.log import listening, reason
from deploykit.engines.tensorrt.parse import Parsed
from deploykit.engines.tensorrt.profiles import Profile
from deploykit.engines.tensorrt.version import Api

if TYPE_CHECKING:
    from deploykit.config.build import BuildConfig

_WAIT_S = 0.05
_MEMORY = re.compile(r"out of memory|OutOfMemory|insufficient memory|cudaErrorMemoryAllocation", re.IGNORECASE)
_DRIVER = re.compile(r"driver version is insufficient|no CUDA-capable device|cudaErrorNoDevice", re.IGNORECASE)


@dataclass(frozen=True)
class Plan:
    """A built engine.

    ``content``: the serialized plan. ``timing_cache``: what the builder measured, to be kept; None where the flavour
    keeps nothing. ``settings``: the builder's settings as they were set, JSON-able.
    """

    content: bytes
    timing_cache: bytes | None
    settings: Mapping[str, object]


def build_plan(
    api: Api,
    parsed: Parsed,
    profiles: Sequence[Profile],
    config: BuildConfig,
    *,
    gpu: Gpu | None,
    timing_cache: bytes | None,
    progress: Progress,
) -> Plan:
    """Build once.

    ``profiles``: for its dynamic inputs. ``gpu``: the one at hand, or None. ``timing_cache``: what earlier builds
    measured; None: none is used.

    Raises:
        AnswerNo: the builder failed; the reason is its first error.
        KeyboardInterrupt: after the builder has stopped.
        Unavailable: the build needs a GPU, or more memory than this one has.
    """
    settings, said_settings = _settings(api, parsed, profiles, config, gpu)
    kept = None
    if timing_cache is not None and api.flavour.timing_cache:
        kept = settings.create_timing_cache(timing_cache)
        settings.set_timing_cache(kept, False)
    with listening() as said, progress.task("build", unit="steps") as task:
        monitor = _monitor(api, lambda: task.advance(1))
        settings.progress_monitor = monitor

        def build() -> Any:
            if gpu is not None:
                make_current(gpu.index)
            return parsed.builder.build_serialized_network(parsed.network, settings)

        content = _built(build, monitor)
    if content is None:
        raise _failed(api, said)
    cache = bytes(settings.get_timing_cache().serialize()) if kept is not None else None
    return Plan(bytes(content), cache, said_settings)


def _built(build: Callable[[], Any], monitor: Any) -> Any:
    """Run ``build`` in a thread, so that Ctrl-C reaches this one; the monitor then asks the builder to stop.

    The end is an event of its own: ``Thread.join`` that is interrupted believes the thread to have ended (Python 3.11).
    """
    answer: list[Any] = []
    errors: list[BaseException] = []
    started, ended = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        try:
            answer.append(build())
        except BaseException as error:
            errors.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=work, name="deploykit-build")
    try:
        thread.start()  # inside: an interrupt may come before it returns
        while not ended.wait(_WAIT_S):
            pass
    except BaseException:
        monitor.cancelled = True
        if started.is_set():
            ended.wait()
        raise
    for error in (*monitor.errors, *errors):
        raise error
    return answer[0]


def _monitor(api: Api, advance: Callable[[], None]) -> Any:
    base = api.trt.IProgressMonitor

    class Monitor(base):  # type: ignore[misc, valid-type]  # a class of the library at hand
        """Counts finished steps. Called hundreds of times a build: nothing here takes long.

        What is raised in a call from C++ would end the process, so that it is kept and the build cancelled.
        """

        def __init__(self) -> None:
            base.__init__(self)
            self.cancelled = False
            self.errors: list[Exception] = []

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            pass

        def phase_finish(self, phase_name: str) -> None:
            pass

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                advance()
            except Exception as error:
                self.errors.append(error)
                self.cancelled = True
            return not self.cancelled

    return Monitor()


def _settings(
    api: Api, parsed: Parsed, profiles: Sequence[Profile], config: BuildConfig, gpu: Gpu | None
) -> tuple[Any, Mapping[str, object]]:
    """The builder's configuration, and what was set as plain data."""
    made = parsed.builder.create_builder_config()
    flags = {
        "TF32": config.precision == "tf32",
        "SPARSE_WEIGHTS": config.sparse,
        "REFIT": config.refit,
        "STRIP_PLAN": config.strip,
        "VERSION_COMPATIBLE": config.version_compatible,
    }
    for name, wanted in flags.items():
        member = api.member("BuilderFlag", name)
        if member is None and wanted:
            raise BadInput(f"{api.flavour.package} {api.version} has no {name}")
        if member is not None:
            (made.set_flag if wanted else made.clear_flag)(member)
    if config.level is not None:
        made.builder_optimization_level = config.level
    if config.workspace_mib is not None:
        pool = api.member("MemoryPoolType", "WORKSPACE")
        made.set_memory_pool_limit(pool, config.workspace_mib << 20)
    detailed = api.member("ProfilingVerbosity", "DETAILED")
    if detailed is not None:
        made.profiling_verbosity = detailed
    if config.hardware_compatible != "none":
        made.hardware_compatibility_level = _compatibility(api, config.hardware_compatible)
    named = capabilities(api, config, gpu)
    if named and api.compute_capabilities():
        made.num_compute_capabilities = len(named)
        for place, capability in enumerate(named):
            member = api.member("ComputeCapability", "SM" + capability.replace(".", ""))
            made.set_compute_capability(member, place)
    for one in profiles:
        profile = parsed.builder.create_optimization_profile()
        for name, (low, best, high) in one.shapes.items():
            profile.set_shape(name, low, best, high)
        if made.add_optimization_profile(profile) < 0:
            raise BadInput(f"{api.flavour.target} does not take the profile", got=str(one.to_dict()))
    return made, {
        **{name.lower(): wanted for name, wanted in flags.items()},
        "level": int(made.builder_optimization_level),
        "workspace_mib": config.workspace_mib,
        "hardware_compatible": config.hardware_compatible,
        "compute_capabilities": list(named) or ("portable" if api.compute_capabilities() else []),
        "profiles": [one.to_dict() for one in profiles],
    }


def _compatibility(api: Api, wanted: str) -> Any:
    name = {"ampere-plus": "AMPERE_PLUS", "same-compute-capability": "SAME_COMPUTE_CAPABILITY"}[wanted]
    member = api.member("HardwareCompatibilityLevel", name)
    if member is None:
        raise BadInput(f"{api.flavour.package} {api.version} has no hardware compatibility {wanted}")
    return member


def capabilities(api: Api, config: BuildConfig, gpu: Gpu | None) -> tuple[str, ...]:
    """The compute capabilities that a plan is built for: those named, else the GPU's at hand, else none: portable.

    Raises:
        BadInput: a form or number that the library does not know, or that this flavour cannot build ahead of time.
    """
    known = api.compute_capabilities()
    wanted = tuple(_dotted(one) for one in config.compute_capabilities if one != "portable")
    if "portable" in config.compute_capabilities and wanted:
        raise BadInput("portable stands alone", got=", ".join(config.compute_capabilities))
    if not known:
        if wanted and (gpu is None or set(wanted) != {gpu.compute_capability}):
            raise BadInput(
                f"{api.flavour.target} builds for the GPU at hand only",
                got=", ".join(wanted),
                expected=gpu.compute_capability if gpu else "a GPU",
                fix=f"Build on that GPU, or use --target {TENSORRT_RTX}, which builds ahead of time.",
            )
        return (gpu.compute_capability,) if gpu else ()
    for one in wanted:
        if one not in known:
            raise unknown("compute capability", one, known)
    if wanted or config.compute_capabilities or gpu is None:
        return wanted
    return (gpu.compute_capability,) if gpu.compute_capability in known else ()


def _dotted(text: str) -> str:
    found = re.fullmatch(r"(?:SM|sm_?)?(\d+)(?:\.(\d))?", text)
    if found is None:
        raise BadInput(f"cannot read the compute capability {text!r}", expected="8.6 or SM86, or portable")
    digits = found.group(1)
    return f"{digits}.{found.group(2)}" if found.group(2) else f"{digits[:-1]}.{digits[-1]}"


def _failed(api: Api, said: list[str]) -> Exception:
    why = reason(said)
    if any(_MEMORY.search(one) for one in said):
        return Unavailable(
            f"{api.flavour.target} ran out of GPU memory while building: {why}",
            fix="Pass --workspace-mib, smaller profiles, or free the GPU.",
        )
    if any(_DRIVER.search(one) for one in said):
        return Unavailable(f"this build needs a GPU: {why}", fix="Build on a machine with an NVIDIA driver.")
    turing = re.search(r"Turing \(SM75\): (.+?)(?: In|\.|$)", why)
    if turing:
        return AnswerNo(
            f"{api.flavour.target} cannot build this network for compute capability 7.5: {turing.group(1)}",
            fix="Pass --precision fp16, or leave 7.5 out of --compute-capability.",
        )
    if "HW-specific datatypes: fp8" in why:
        return AnswerNo(
            f"{api.flavour.target} cannot build fp8 for a compute capability below 8.9",
            fix="Name 8.9 or later with --compute-capability, or use int8.",
        )
    return AnswerNo(f"{api.flavour.target} could not build the engine: {why}", fix="Run it with --debug for more.")


def cache_file(api: Api, gpu: Gpu) -> Path:
    """Where the cache of this version on this kind of GPU lies; the file may not be there."""
    key = value_sha256(
        {
            "package": api.flavour.package,
            "version": api.version,
            "gpu": gpu.name,
            "compute_capability": gpu.compute_capability,
            "cuda": gpu.cuda,
        }
    )
    return cache_folder() / TENSORRT / f"timing.{key[:32]}.bin"


@contextmanager
def shared(place: Path, progress: Progress) -> Iterator[bytes]:
    """The content of the cache file, empty where there is none; two processes use it one after the other.

    Builders must not time kernels at once on one GPU anyway: the times that they keep would be wrong.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with alone_with(place, progress):
        yield place.read_bytes() if place.is_file() else b""


def keep(place: Path, content: bytes) -> None:
    """Replace the cache file whole."""
    write_bytes(place, content)
