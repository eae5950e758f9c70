"""The one table of targets: what may run a network, and all that deploykit knows of it. Every registry derives from it.

A target is one row here and the module that the row names as its ``runner``. Another package adds one by an entry point
of the group ``deploykit.targets``: its name is the target's, its value a :class:`Target`. Only the names of such targets
are looked up; a package is imported when its own target is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from deploykit.base.errors import BadInput, Unavailable, unknown

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Precision = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
GROUP = "deploykit.targets"
_NAME = re.compile(r"[a-z][a-z0-9-]*")

TORCH_EAGER = "torch-eager"
TORCH_COMPILE = "torch-compile"
ORT_CPU = "ort-cpu"
ORT_CUDA = "ort-cuda"
ORT_TRT = "ort-trt"
TENSORRT = "tensorrt"
TENSORRT_RTX = "tensorrt-rtx"
OPENVINO = "openvino"
REFERENCE = TORCH_EAGER
"""What every engine's answers are compared with."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One row of the table.

    Attributes:
        name: in ``--target`` and behind ``@``.
        runner: the module that opens its files, an :class:`deploykit.base.runner.Engine`.
        suffixes: of the files that it runs.
        natural: of the files that it runs where no target is named.
        on_gpu: the target that takes its place where none is named and the device is ``cuda``; None: it stays.
        header: the module whose ``read_header`` tells from a file whose it is; None: the suffix says it.
        on_cpu: it computes on the CPU only.
        precisions: that the float part of a network can be made in for it.
        options: precision → the option of the target that asks for it, where the file's own does not change.
        dialect: of Q/DQ, see :mod:`deploykit.quantization.qdq.dialects`; None: it has no int8.
        no_int8: what to do instead, where there is more to say than that it has none.
        builder: the module that makes its files of an ``.onnx``, a :class:`deploykit.building.builder.Builder`; None: there
            is nothing to build.
        built: the suffix of what the builder makes.
        layer_times: how single layers are timed: ``profile`` by its runner, which tells the time of each (it is
            :class:`deploykit.base.runner.Profiled`), ``copies`` by many runs of one layer; None: they are not.
        provider: of ONNX Runtime.
        libraries: distributions whose versions change what it computes, or how fast.
        install: what brings it, for messages.
        kept: what it builds or measures is kept in the user's cache, in a folder of its name.
    """

    name: str
    runner: str
    suffixes: tuple[str, ...]
    natural: tuple[str, ...] = ()
    on_gpu: str | None = None
    header: str | None = None
    on_cpu: bool = False
    precisions: tuple[str, ...] = ("fp32",)
    options: tuple[tuple[str, str], ...] = ()
    dialect: Literal["integer-kernels", "signed-inputs", "unsigned-inputs"] | None = None
    no_int8: str | None = None
    builder: str | None = None
    built: str = ".onnx"
    layer_times: Literal["profile", "copies"] | None = None
    provider: str | None = None
    libraries: tuple[str, ...] = ()
    install: str = ""
    kept: bool = False

    @property
    def runs_models(self) -> bool:
        """It runs model files of PyTorch."""
        return ".pt" in self.suffixes

    @property
    def takes_onnx(self) -> bool:
        """An ``.onnx`` is what it runs, or what its files are built of."""
        return ".onnx" in self.suffixes or self.builder is not None

    @property
    def needs_build(self) -> bool:
        """It runs only what was built for it."""
        return self.builder is not None and self.built != ".onnx"


_MODELS = (".pt", ".pth", ".safetensors", ".pt2")
_PLANS = (".engine", ".plan", ".trt")
_TORCH = "deploykit.engines.torch.runner"
_ORT = "deploykit.engines.onnxruntime.runner"
_TRT = "deploykit.engines.tensorrt.runner"
_TRT_HEADER = "deploykit.engines.tensorrt.plan_file"
_FILE_BUILDER = "deploykit.building.ort_file"
_PLAN_BUILDER = "deploykit.building.tensorrt_plan"
_CASTS = ("fp32", "fp16", "bf16")

BUILT_IN = (
    Target(
        name=TORCH_EAGER,
        runner=_TORCH,
        suffixes=(*_MODELS, ".ckpt", ".bin"),
        natural=_MODELS,
        libraries=("torch", "torchvision"),
        install="pip install torch torchvision (as a pair; never torch 2.13.0)",
    ),
    Target(
        name=TORCH_COMPILE,
        runner=_TORCH,
        suffixes=(*_MODELS, ".ckpt", ".bin"),
        libraries=("torch", "torchvision"),
        install="Install a C++ compiler (apt-get install g++ python3-dev)",
    ),
    Target(
        name=ORT_CPU,
        runner=_ORT,
        suffixes=(".onnx",),
        natural=(".onnx",),
        on_gpu=ORT_CUDA,
        on_cpu=True,
        precisions=_CASTS,
        dialect="integer-kernels",
        builder=_FILE_BUILDER,
        layer_times="profile",
        provider="CPUExecutionProvider",
        libraries=("onnxruntime", "onnxruntime-gpu"),
        install="pip install onnxruntime-gpu, or onnxruntime where it has no wheels",
    ),
    Target(
        name=ORT_CUDA,
        runner=_ORT,
        suffixes=(".onnx",),
        precisions=_CASTS,
        options=(("tf32", "use_tf32=1"),),
        no_int8="ONNX Runtime's CUDA provider runs Q/DQ in float and slower: use fp16 there, or --target tensorrt.",
        builder=_FILE_BUILDER,
        layer_times="copies",
        provider="CUDAExecutionProvider",
        libraries=("onnxruntime", "onnxruntime-gpu"),
        install="Install the driver and pip install 'onnxruntime-gpu[cuda,cudnn]'",
    ),
    Target(
        name=ORT_TRT,
        runner=_ORT,
        suffixes=(".onnx",),
        precisions=_CASTS,
        dialect="signed-inputs",
        builder=_FILE_BUILDER,
        provider="TensorrtExecutionProvider",
        libraries=("onnxruntime", "onnxruntime-gpu", "tensorrt"),
        install="pip install 'deploykit[ort-trt]' (tensorrt>=10.16,<11)",
        kept=True,
    ),
    Target(
        name=TENSORRT,
        runner=_TRT,
        suffixes=_PLANS,
        header=_TRT_HEADER,
        precisions=("fp32", "tf32", "fp16", "bf16", "fp8"),
        dialect="signed-inputs",
        builder=_PLAN_BUILDER,
        built=".engine",
        layer_times="profile",
        libraries=("tensorrt",),
        install="pip install 'deploykit[trt]'",
        kept=True,
    ),
    Target(
        name=TENSORRT_RTX,
        runner=_TRT,
        suffixes=_PLANS,
        header=_TRT_HEADER,
        precisions=("fp32", "tf32", "fp16", "bf16", "fp8"),
        dialect="signed-inputs",
        builder=_PLAN_BUILDER,
        built=".engine",
        layer_times="profile",
        libraries=("tensorrt_rtx",),
        install="pip install 'deploykit[trt-rtx]'",
    ),
    Target(
        name=OPENVINO,
        runner="deploykit.engines.openvino.runner",
        suffixes=(".xml", ".onnx"),
        natural=(".xml",),
        on_cpu=True,
        precisions=_CASTS,
        dialect="unsigned-inputs",
        builder=_FILE_BUILDER,
        layer_times="profile",
        libraries=("openvino",),
        install="pip install 'deploykit[openvino]'",
    ),
)
TARGETS = tuple(row.name for row in BUILT_IN)
"""Names of the targets that come with deploykit; :func:`target_names` also has those of other packages."""
_ROWS = {row.name: row for row in BUILT_IN}


def target_of(name: str) -> Target:
    """The row of a target.

    Raises:
        BadInput: nobody has such a target (the line lists those that there are, and the nearest), or several do.
        Unavailable: the package that has it does not load.
    """
    claims = _claims().get(name, ())
    if not claims and name in _ROWS:
        return _ROWS[name]
    if not claims:
        raise unknown("target", name, [*TARGETS, *_claims()])
    if len(claims) > 1 or name in _ROWS:
        makers = [_maker(one) for one in claims]
        raise BadInput(
            f"several packages have a target named {name}",
            got=", ".join([*(["deploykit"] if name in _ROWS else []), *makers]),
            expected="one",
            fix=f"Uninstall all but one: pip uninstall {makers[-1].partition(' ')[0]}.",
        )
    return _loaded(claims[0])


def target_names(which: Callable[[Target], bool] | None = None) -> tuple[str, ...]:
    """Names of the targets, those of other packages last.

    ``which``: says of a row whether it counts; None: all do, and no package is imported. One that does not load is left
    out, as its own name tells why.
    """
    others = [name for name in _claims() if name not in _ROWS]
    if which is None:
        return (*TARGETS, *others)
    return tuple(name for name in (*TARGETS, *others) if (row := _row_or_none(name)) is not None and which(row))


@dataclass(frozen=True, eq=False)
class Names(Collection[str]):
    """Names of the targets whose row ``which`` says yes to, looked up each time: installed packages bring more.

    Whether a name is among them asks only that target's own row.
    """

    which: Callable[[Target], bool]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in target_names() and self.which(target_of(name))

    def __iter__(self) -> Iterator[str]:
        return iter(target_names(self.which))

    def __len__(self) -> int:
        return len(target_names(self.which))


WITH_INT8 = Names(lambda row: row.dialect is not None)
WITH_BUILDER = Names(lambda row: row.builder is not None)
WITH_LAYER_TIMES = Names(lambda row: row.layer_times is not None)
ON_ONNX = Names(lambda row: ".onnx" in row.suffixes)


def check_target(target: str) -> str:
    """Return ``target`` if it is known; else as :func:`target_of`."""
    return target_of(target).name


@cache
def _claims() -> dict[str, tuple[EntryPoint, ...]]:
    """Name of a target → the entry points of other packages that bring one so named."""
    from importlib.metadata import entry_points

    found: dict[str, list[EntryPoint]] = {}
    for one in entry_points(group=GROUP):
        found.setdefault(one.name, []).append(one)
    return {name: tuple(claims) for name, claims in sorted(found.items())}


def _row_or_none(name: str) -> Target | None:
    try:
        return target_of(name)
    except (BadInput, Unavailable):
        return None


@cache
def _loaded(claim: EntryPoint) -> Target:
    wrong = f"the target {claim.name} of the package {_maker(claim)} cannot be used"
    fix = f"Mend or uninstall the package: pip uninstall {_maker(claim).partition(' ')[0]}."
    try:
        row = claim.load()
    except Exception as error:  # what another package raises while it is imported
        raise Unavailable(f"{wrong}: {claim.value} does not load ({type(error).__name__}: {error})", fix=fix) from error
    if not isinstance(row, Target):
        raise Unavailable(wrong, got=f"{claim.value}, a {type(row).__name__}", expected="a Target", fix=fix)
    if row.name != claim.name or not _NAME.fullmatch(row.name):
        raise Unavailable(
            wrong, got=f"the name {row.name!r}", expected=f"{claim.name}, of small letters, digits and '-'", fix=fix
        )
    return row


def _maker(claim: EntryPoint) -> str:
    """The distribution and its version."""
    return f"{claim.dist.name} {claim.dist.version}" if claim.dist is not None else claim.value


def natural_target(path: Path) -> str:
    """The target of a file that names none: of a ``.pt`` torch-eager, of an ``.onnx`` ort-cpu.

    Raises:
        BadInput: the suffix has no natural target.
    """
    found = {suffix: row.name for row in _ROWS.values() for suffix in row.natural}
    suffix = path.suffix.lower()
    if suffix in found:
        return found[suffix]
    for name in target_names(lambda row: suffix in row.natural):  # a format that only another package has
        return name
    raise BadInput(
        f"cannot tell what runs {path}",
        got=f"suffix {path.suffix or '(none)'}",
        expected="one of " + ", ".join(found),
        fix=f"Name the target: {path}@TARGET.",
    )
