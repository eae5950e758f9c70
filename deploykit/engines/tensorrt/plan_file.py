"""Plan files: whose they are and whether they can run here, before the library opens them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploykit.base.errors import BadInput, Unavailable
from deploykit.engines.tensorrt.log import listening, logger, reason
from deploykit.engines.tensorrt.version import FLAVOURS, Api

_VERSION_AT = 24  # of the header, where trtexec reads it too
_SIZE_AT = 16  # of TensorRT-RTX's header, as its own plans show
_HEADER_BYTES = 64
_MASK_AT = 32
_MASK = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Compute capabilities of the bits 0, 1, … of TensorRT-RTX's header, as its own plans show."""


@dataclass(frozen=True)
class Header:
    """What the first bytes of a plan tell.

    ``target``: whose plan it is. ``version``: of the library that built it, ``1.7.1.116``. ``capabilities``: that it
    was built for, where the header tells; empty: it does not.
    """

    target: str
    version: str
    capabilities: tuple[str, ...]


def read_header(path: Path) -> Header:
    """The header of a plan.

    Raises:
        BadInput: no plan of the family, or shorter than a header.
    """
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    found = header_of(head, path)
    stated = int.from_bytes(head[_SIZE_AT : _SIZE_AT + 8], "little")
    size = path.stat().st_size
    if FLAVOURS[found.target].ahead_of_time and size < stated:
        raise BadInput(f"{path} is truncated", got=f"{size} bytes", expected=stated, fix="Build or copy it again.")
    return found


def header_of(content: bytes, path: Path) -> Header:
    """The header of a plan in memory; ``path`` is for the message."""
    head = content[:_HEADER_BYTES]
    flavour = next((one for one in FLAVOURS.values() if head.startswith(one.magic)), None)
    if flavour is None:
        raise BadInput(
            f"{path} is no TensorRT plan", got=repr(head[:4]), expected="a file that starts with ftrt or vtrt"
        )
    if len(head) < _HEADER_BYTES:
        raise BadInput(f"{path} is truncated", got=f"{len(head)} bytes", fix="Build or copy it again.")
    version = ".".join(str(one) for one in head[_VERSION_AT : _VERSION_AT + 4])
    return Header(flavour.target, version, _capabilities(head) if flavour.ahead_of_time else ())


def _capabilities(head: bytes) -> tuple[str, ...]:
    mask = int.from_bytes(head[_MASK_AT : _MASK_AT + 8], "little")
    return tuple(name for bit, name in enumerate(_MASK) if mask >> bit & 1)


def open_plan(api: Api, path: Path, rebuild: str, *, host_code: bool = False) -> tuple[Any, Any]:
    """Deserialize a plan.

    ``rebuild``: the command that makes it again, for the message. ``host_code``: let the plan run the lean runtime
    inside it, as version-compatible ones need. Returns the runtime, which must live as long as the engine, and the
    engine.

    Raises:
        BadInput: malformed, or of another version of the library.
        Unavailable: of another GPU, or the driver is too old.
    """
    content = path.read_bytes()
    runtime = api.trt.Runtime(logger(api))
    runtime.engine_host_code_allowed = host_code
    header = read_header(path)
    with listening() as said:
        _refuse_invalid(api, runtime, content, path, header, rebuild)
        engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise _not_opened(api, path, header, reason(said), rebuild)
    return runtime, engine


def diagnostics(api: Api, runtime: Any, content: bytes) -> set[str]:
    """Why a plan does not run here, by the library's own names (``MALFORMED_ENGINE``); empty: it does, or is not told."""
    if not hasattr(runtime, "get_engine_validity"):
        return set()
    size = int(getattr(runtime, "engine_header_size", _HEADER_BYTES))
    with listening():
        validity, bits = runtime.get_engine_validity(content[:size])
    if validity == api.member("EngineValidity", "VALID"):
        return set()
    members = api.trt.EngineInvalidityDiagnostics.__members__
    return {name for name, member in members.items() if bits & int(member)} or {validity.name}


def _refuse_invalid(api: Api, runtime: Any, content: bytes, path: Path, header: Header, rebuild: str) -> None:
    if header.target != api.flavour.target:
        raise BadInput(
            f"{path} is a plan of {header.target}",
            expected=api.flavour.target,
            fix=f"Open it as {path}@{header.target}.",
        )
    found = diagnostics(api, runtime, content)
    if "MALFORMED_ENGINE" in found:
        raise BadInput(f"{path} is damaged", fix=f"Copy it again, or rebuild: {rebuild}.")
    if "VERSION_MISMATCH" in found:
        raise BadInput(
            f"{path} was built with {api.flavour.package} {header.version}, and {api.version} is installed",
            fix=f"Rebuild it: {rebuild}.",
        )
    if "UNSUPPORTED_CC" in found:
        raise Unavailable(f"{path} was built for another GPU", got=_list(header), fix=f"Rebuild it here: {rebuild}.")
    if found & {"OLD_CUDA_DRIVER", "OLD_CUDA_RUNTIME"}:
        raise Unavailable(f"{path} needs a newer CUDA driver", fix="Update the NVIDIA driver.")
    if "INSUFFICIENT_GPU_MEMORY" in found:
        raise Unavailable(f"{path} needs more memory than this GPU has")


def _list(header: Header) -> str | None:
    return f"compute capabilities {', '.join(header.capabilities)}" if header.capabilities else None


def _not_opened(api: Api, path: Path, header: Header, why: str, rebuild: str) -> Exception:
    if "memory" in why.lower():
        return Unavailable(f"{path} does not fit into the GPU's memory: {why}", fix="Free the GPU, or use another.")
    if "driver version is insufficient" in why or "no CUDA-capable device" in why:
        return Unavailable(f"{path} cannot run here: {why}", fix="Install or update the NVIDIA driver.")
    if "version" in why.lower() and not api.version.startswith(header.version):
        return BadInput(
            f"{path} was built with {api.flavour.package} {header.version}, and {api.version} is installed",
            fix=f"Rebuild it: {rebuild}.",
        )
    return BadInput(
        f"{path} cannot be opened by {api.flavour.package} {api.version}: {why}", fix=f"Rebuild it: {rebuild}."
    )
