"""What a TensorRT plan tells: its header, the network it was built from, and the engine itself.

Only a machine with a GPU can open a plan. Elsewhere its manifest tells what the builder was given, and what is missing is
said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deploykit.base.artifact import Manifest, read_manifest
from deploykit.base.engine_layers import EngineLayer
from deploykit.base.errors import DeploykitError
from deploykit.base.hashing import file_sha256
from deploykit.base.overrides import NOTHING_STATED, Stated
from deploykit.base.runner import Layered
from deploykit.base.spec import Spec
from deploykit.engines.tensorrt.plan_file import read_header
from deploykit.quantization.lint.explain_audit import LEFT, audit_and_left, grouped

Described = tuple[Mapping[str, object], Sequence[EngineLayer]]
Timed = Callable[[Path, str], Described]
"""Opens a plan on a target: facts of the engine, and its layers with the time of each."""


def describe_plan(
    path: Path, *, timed: Timed | None = None, stated: Stated = NOTHING_STATED, allow_code: bool = False
) -> Described:
    """Facts and layers of a plan.

    ``timed``: measures the time of each layer, where that is asked for and the plan opens here. ``stated``: of
    the file.

    Raises:
        BadInput: no plan, or truncated.
    """
    header, manifest = read_header(path), read_manifest(path)
    facts: dict[str, object] = {
        "format": f"{header.target} plan",
        "built_with": header.version,
        "compute_capabilities": list(header.capabilities),
    }
    network, layers = _network(manifest)
    facts |= network
    facts["parent"] = _parent(path, manifest)
    found, audited = _opened(path, header.target, timed, stated, allow_code)
    return {**facts, **found}, audited or layers


def _network(manifest: Manifest | None) -> Described:
    """What the manifest keeps of the network definition, without its layers, and these."""
    if manifest is None or "network" not in manifest.facts:
        return {"network": "not known: the plan has no manifest of deploykit"}, []
    facts = manifest.facts
    network = {key: value for key, value in facts["network"].items() if key not in ("layers", "io", LEFT)}
    told = {
        "precision": facts["precision"],
        "float_precision": facts["float_precision"],
        "network_as_given_to_the_builder": network,
        "qdq_expected_to_fuse_with_nothing": grouped(facts["network"].get(LEFT, []), {}),
        "tensors": facts["network"]["io"],
        "profiles": [
            {"input": name, **shapes} for profile in facts["settings"]["profiles"] for name, shapes in profile.items()
        ],
        "settings": {key: value for key, value in facts["settings"].items() if key != "profiles"},
        "built_on": (manifest.hardware.get("gpu") or {}).get("name") or "a machine without GPU",
        "beside": facts.get("beside"),
        "notes": facts["notes"],
    }
    return told, facts["network"]["layers"]


def _parent(path: Path, manifest: Manifest | None) -> str | None:
    """Whether the ONNX file that the plan came from is still that file."""
    parent = next((one for one in manifest.parents if one.role == "model"), None) if manifest is not None else None
    if parent is None or parent.path is None:
        return None
    place = path.parent / parent.path
    if not place.is_file():
        return f"{parent.path} is not there any more"
    same = file_sha256(place) == parent.sha256
    return f"{parent.path}, unchanged" if same else f"{parent.path} has changed since: the engine is stale, rebuild it"


def _opened(path: Path, target: str, timed: Timed | None, stated: Stated, allow_code: bool) -> Described:
    """The engine's own inspector, where this machine opens the plan; else what is missing and why."""
    from deploykit.engines import open_runner

    try:
        if timed is not None:
            return timed(path, target)
        with open_runner(Spec(path.stem, path, target), stated=stated, allow_code=allow_code) as runner:
            found, left = audit_and_left(runner)
            layers = runner.layers() if isinstance(runner, Layered) else []
    except DeploykitError as error:
        missing = "tactics, formats, fusion, reformats" + (", and the time of each layer" if timed is not None else "")
        return {"not_told": f"{missing}, because the plan does not open here: {error.what}"}, []
    return {"engine": found, LEFT: left}, layers
