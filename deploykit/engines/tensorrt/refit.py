"""Weights for a plan that was built without them (``--strip``): read from the ONNX file that it was built from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploykit.base.artifact import Manifest
from deploykit.base.errors import BadInput, Unavailable
from deploykit.base.hashing import file_sha256
from deploykit.engines.tensorrt.log import listening, logger, reason
from deploykit.engines.tensorrt.version import Api


def weights_for(path: Path, manifest: Manifest | None, named: str | None) -> Path | None:
    """The ONNX file whose weights a plan lacks; None where it has its own.

    Args:
        path: of the plan.
        manifest: of it.
        named: the file that the user names.

    Raises:
        BadInput: the file is gone, or no longer the one that the plan was built from, or was never written down.
    """
    if manifest is None or not manifest.config.get("strip"):
        return None if named is None else _there(Path(named), path)
    if manifest.facts.get("cast") is not None and named is None:
        raise BadInput(
            f"{path} holds no weights, and those it was built from were cast and not kept",
            fix="Cast first (deploykit export --precision), build from that file, and rebuild this plan.",
        )
    parent = next((one for one in manifest.parents if one.role == "model"), None)
    if named is None and (parent is None or parent.path is None):
        raise BadInput(f"{path} holds no weights", fix=f"Name their file: {path}@{manifest.target}:weights=MODEL.onnx.")
    source = _there(Path(named) if named is not None else path.parent / str(parent and parent.path), path)
    if parent is not None and named is None and file_sha256(source) != parent.sha256:
        raise BadInput(f"{source}, which holds the weights of {path}, has changed since", fix="Rebuild the plan.")
    return source


def _there(source: Path, path: Path) -> Path:
    if not source.is_file():
        raise BadInput(f"{source}, which holds the weights of {path}, is not there", fix="Copy both files together.")
    return source


def refit(api: Api, engine: Any, source: Path, path: Path) -> None:
    """Put the weights of ``source`` into an engine.

    Raises:
        BadInput: they are not the engine's.
        Unavailable: this version cannot refit from an ONNX file.
    """
    if not hasattr(api.trt, "OnnxParserRefitter"):
        raise Unavailable(f"{api.flavour.package} {api.version} cannot give weights to {path}", fix="Build it whole.")
    with listening() as said:
        refitter = api.trt.Refitter(engine, logger(api))
        parser = api.trt.OnnxParserRefitter(refitter, logger(api))
        done = parser.refit_from_file(str(source)) and refitter.refit_cuda_engine()
    if not done:
        raise BadInput(f"the weights of {source} do not go into {path}: {reason(said)}", fix="Rebuild the plan.")
