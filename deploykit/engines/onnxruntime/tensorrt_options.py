"""Options of ONNX Runtime's TensorRT provider, and caches that are keyed by us.

The provider names its cached engines after the graph, not after its weights, its options or the GPU, and then opens what
it finds: users report stale and mixed-up engines. Every folder here belongs to one file, one set of options, one
version of both libraries and one kind of GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from deploykit.base.environment import GpuInfo
from deploykit.base.errors import BadInput
from deploykit.base.hashing import file_sha256, value_sha256
from deploykit.base.lock import alone_with
from deploykit.base.targets import ORT_TRT, target_of
from deploykit.base.user_cache import cache_folder

if TYPE_CHECKING:
    import onnx

TRT_OPTIONS = {
    "fp16": "1: the builder may use fp16, which a float16 graph needs",
    "bf16": "1: the builder may use bf16",
    "int8": "1: the graph has Q/DQ",
    "level": "of the builder's optimization, 0 to 5",
    "workspace_mib": "most scratch memory of one kernel",
    "sparse": "1: 2:4 sparse kernels where weights have the pattern",
    "hw_compatible": "1: engines run on later GPUs too",
    "cuda_graph": "1: capture and replay the whole graph",
    "cache": "0: build again every time",
    "profile_min": "smallest input shapes, NAME:1x3x224x224",
    "profile_opt": "best served input shapes",
    "profile_max": "largest input shapes",
}
_NAMES = {
    "fp16": "trt_fp16_enable",
    "bf16": "trt_bf16_enable",
    "int8": "trt_int8_enable",
    "level": "trt_builder_optimization_level",
    "sparse": "trt_sparsity_enable",
    "hw_compatible": "trt_engine_hw_compatible",
    "cuda_graph": "trt_cuda_graph_enable",
    "profile_min": "trt_profile_min_shapes",
    "profile_opt": "trt_profile_opt_shapes",
    "profile_max": "trt_profile_max_shapes",
}


def provider_fields(path: Path, options: dict[str, str], gpu: GpuInfo | None) -> dict[str, str]:
    """The provider's own options for ours, with engine and timing caches of this file.

    ``gpu``: name and compute capability of the GPU, for the key; None where there is none.
    """
    fields = {_NAMES[key]: value for key, value in options.items() if key in _NAMES}
    if "workspace_mib" in options:
        fields["trt_max_workspace_size"] = str(int(options["workspace_mib"]) << 20)
    if options.get("cache", "1") == "1":
        place = engine_folder(path, options, gpu)
        place.mkdir(parents=True, exist_ok=True)
        fields |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(place),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(place),
        }
    return fields


@contextmanager
def alone_in_cache(path: Path, options: dict[str, str], gpu: GpuInfo | None) -> Iterator[None]:
    """Let one process at a time build engines of a file: the provider writes them in place, where others would read halves.

    ``gpu``: as for :func:`provider_fields`.
    """
    if options.get("cache", "1") != "1":
        yield
        return
    with alone_with(engine_folder(path, options, gpu)):
        yield


def engine_folder(path: Path, options: dict[str, str], gpu: GpuInfo | None) -> Path:
    """Where the engines of one file, set of options, versions and GPU are kept."""
    key = value_sha256(
        {
            "file": file_sha256(path),
            "options": {name: value for name, value in sorted(options.items()) if name != "cache"},
            "versions": {name: _version(name) for name in target_of(ORT_TRT).libraries},
            "gpu": gpu,
        }
    )
    return cache_folder() / ORT_TRT / key[:32]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def profile_options(model: onnx.ModelProto, profiles: Sequence[str]) -> dict[str, str]:
    """``--profile MIN:OPT:MAX`` as the provider's three options; it takes one profile.

    Raises:
        BadInput: several profiles, a form it does not take, or sizes that do not rise.
    """
    if not profiles:
        return {}
    if len(profiles) > 1:
        raise BadInput(f"{ORT_TRT} takes one profile", got=", ".join(profiles))
    try:
        sizes = [int(one) for one in profiles[0].split(":")]
    except ValueError:
        sizes = []
    if len(sizes) != 3 or not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
        raise BadInput(f"a profile of {ORT_TRT}", got=profiles[0], expected="MIN:OPT:MAX batch sizes (1:8:32)")
    weights = {one.name for one in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in weights]
    return {
        f"profile_{which}": ",".join(_shape(one, size) for one in inputs)
        for which, size in zip(("min", "opt", "max"), sizes, strict=True)
    }


def _shape(value: onnx.ValueInfoProto, batch: int) -> str:
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    if not all(dims[1:]):
        raise BadInput(f"the input {value.name!r} has dynamic dimensions besides the batch", got=str(dims))
    return f"{value.name}:" + "x".join(str(one) for one in (batch, *dims[1:]))
