"""Which engine runs a file, and opening it.

What a target lacks on this machine, told before anything is made for it.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploykit.base.artifact import read_manifest
from deploykit.base.errors import BadInput, Unavailable
from deploykit.base.runner import Runner
from deploykit.base.spec import Spec, parse_spec
from deploykit.base.targets import TARGETS, check_target, natural_target
from deploykit.engines.onnxruntime.providers import PROVIDERS, need_provider

if TYPE_CHECKING:
    from deploykit.engines.tensorrt.hardware import Gpu
    from deploykit.engines.tensorrt.version import Api

BUILT = {
    "torch-eager": "deploykit.engines.torch.runner",
    "torch-compile": "deploykit.engines.torch.runner",
    "ort-cpu": "deploykit.engines.onnxruntime.runner",
    "ort-cuda": "deploykit.engines.onnxruntime.runner",
    "ort-trt": "deploykit.engines.onnxruntime.runner",
    "tensorrt": "deploykit.engines.tensorrt.runner",
    "tensorrt-rtx": "deploykit.engines.tensorrt.runner",
    "openvino": "deploykit.engines.openvino.runner",
}
"""target → the module whose ``open_target`` opens it."""

_SUFFIXES = {
    "torch": (".pt", ".pth", ".safetensors", ".pt2", ".ckpt", ".bin"),
    "ort": (".onnx",),
    "tensorrt": (".engine", ".plan", ".trt"),
    "openvino": (".xml", ".onnx"),
}
_MENDS = {
    "torch": "Name another target: {path}@{other}.",
    "ort": "Export it first: deploykit export {path}.",
    "tensorrt": "Build it first: deploykit build {path} --target {target}.",
    "openvino": "Export it first: deploykit export {path}.",
}


def resolve(spec: Spec | str | Path, device: str = "auto") -> Spec:
    """``spec`` with its target filled in: as named, else the manifest's, else the file's natural one.

    With ``device`` cuda the natural target of an ``.onnx`` is ort-cuda: what was asked to run on a GPU does not quietly
    run on the CPU.

    Raises:
        BadInput: the file does not exist, or nothing says what runs it, or the target does not run such files.
    """
    if not isinstance(spec, Spec):
        spec = parse_spec(str(spec))
    if not spec.path.exists():
        raise BadInput(f"{spec.path} does not exist", fix="Check the path.")
    if spec.path.is_dir():
        raise BadInput(f"{spec.path} is a folder", expected="a model or engine file")
    target = spec.target
    if target is None:
        manifest = read_manifest(spec.path)
        target = manifest.target if manifest and manifest.target else _natural(spec.path)
        target = "ort-cuda" if (target, device) == ("ort-cpu", "cuda") else target
    check_target(target)
    suffix = spec.path.suffix.lower()
    for engine, wanted in _SUFFIXES.items():
        foreign = [s for other, suffixes in _SUFFIXES.items() if other != engine for s in suffixes]
        if target.startswith(engine) and suffix in foreign and suffix not in wanted:
            other = _natural(spec.path)
            mend = _MENDS["torch" if suffix in _SUFFIXES["tensorrt"] else engine]
            raise BadInput(
                f"{target} cannot run {spec.path}",
                expected=" or ".join(wanted),
                fix=mend.format(path=spec.path, target=target, other=other),
            )
    return replace(spec, target=target)


def _natural(path: Path) -> str:
    """The target of a file that names none: of a plan, the library whose header it has."""
    if path.suffix.lower() in _SUFFIXES["tensorrt"]:
        from deploykit.engines.tensorrt.plan_file import read_header

        return read_header(path).target
    return natural_target(path)


def open_runner(
    spec: Spec | str | Path,
    *,
    threads: int | None = None,
    device: str = "auto",
    size: int | None = None,
    allow_code: bool = False,
) -> Runner:
    """Load an artifact into the engine of its target.

    Args:
        spec: ``[NAME=]PATH[@TARGET[:key=value,…]]``, or taken apart.
        threads: of the CPU; None: the engine's default. Torch has one setting for the whole process.
        device: ``auto``, ``cpu`` or ``cuda``, of torch targets and where no target is named; the others name theirs.
        size: input size in pixels, which wins over what the file says.
        allow_code: ``module:…`` architectures inside model files may run.

    Returns:
        An open runner; use it in a ``with`` block.

    Raises:
        BadInput: the file is missing, broken or foreign to the target, or an option is unknown.
        Unavailable: this machine lacks what the target needs; the error names it.
    """
    spec = resolve(spec, device)
    if threads is not None and threads < 1:
        raise BadInput("threads", got=threads, expected="at least 1")
    if size is not None and size < 1:
        raise BadInput("size", got=size, expected="at least 1 pixel")
    if device not in ("auto", "cpu", "cuda"):
        raise BadInput("device", got=repr(device), expected="auto, cpu or cuda")
    if spec.target not in BUILT:
        later = ", ".join(target for target in TARGETS if target in BUILT)
        raise Unavailable(f"this version of deploykit has no engine for {spec.target}", fix=f"Use one of {later}.")
    module = importlib.import_module(BUILT[spec.target])
    runner: Runner = module.open_target(spec, threads=threads, device=device, size=size, allow_code=allow_code)
    return runner


def lacking(target: str) -> Unavailable | None:
    """Why nothing made for ``target`` can be used here, or None.

    TensorRT-RTX builds without a GPU; where there is one, it must be one of those that the library serves.
    """
    try:
        if target in PROVIDERS:
            need_provider(PROVIDERS[target], target)
        elif target in ("tensorrt", "tensorrt-rtx"):
            from deploykit.engines.tensorrt.hardware import gpu_or_none
            from deploykit.engines.tensorrt.version import load

            _serves(load(target), gpu_or_none())
        elif target == "openvino":
            from deploykit.engines.openvino.compiled_model import library

            library()
    except Unavailable as error:
        return error
    return None


def _serves(api: Api, here: Gpu | None) -> None:
    """Refuse a GPU older than the newest that the library names and not among those it names."""
    known = api.compute_capabilities()
    if here is None or not known or here.compute_capability in known:
        return
    if _order(here.compute_capability) < _order(known[-1]):
        raise Unavailable(
            f"{api.flavour.target} has no kernels for this GPU, {here.name}, of compute capability "
            f"{here.compute_capability} (it has them for {', '.join(known)})",
            fix="Use --target tensorrt.",
        )


def _order(capability: str) -> tuple[int, ...]:
    return tuple(map(int, capability.split(".")))
