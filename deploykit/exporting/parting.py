"""Where two artifacts part, layer by layer: what ``verify --bisect`` answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.base.runner import Runner
from deploykit.exporting.bisect import Pair, Parting, first_parting

if TYPE_CHECKING:
    from deploykit.base.targets import Spec
    from deploykit.config.benchmark import VerifyConfig
    from deploykit.exporting.taps import GraphTaps, ModuleTaps, Tap

EMBEDDED = "preprocessing/Transpose"


def find_parting(
    specs: tuple[Spec, Spec],
    runners: tuple[Runner, Runner],
    inputs: tuple[np.ndarray, np.ndarray],
    config: VerifyConfig,
    threshold_db: float,
    progress: Progress = SILENT,
) -> Parting | None:
    """The first layer where the candidate leaves the reference, computed on the CPU.

    Args:
        specs: of reference and candidate.
        runners: theirs, for the declared inputs.
        inputs: what each takes for the same pictures.
        config: of the verification.
        threshold_db: SNR below which two tensors count as parted.
        progress: shows one bar.

    Raises:
        BadInput: a side is neither a model file nor an ONNX graph, or no tensor of one has a partner in the other.
    """
    sides = [_side(spec, x, config) for spec, x in zip(specs, inputs, strict=True)]
    if (parting := _inputs_part(sides, runners, inputs, threshold_db)) is not None:
        return parting
    pairs = _pairs(*sides)
    if not pairs:
        raise BadInput(
            f"no layer of {specs[1].path} has a partner in {specs[0].path}",
            fix="Compare a file with the model or the graph that it was made from.",
        )
    return first_parting(pairs, sides[0], sides[1], threshold_db, progress=progress)


def _side(spec: Spec, x: np.ndarray, config: VerifyConfig) -> GraphTaps | ModuleTaps:
    from deploykit.exporting.taps import GraphTaps, ModuleTaps

    suffix = Path(spec.path).suffix.lower()
    if suffix == ".onnx":
        return GraphTaps(spec.path, x, config.threads)
    if suffix in (".pt", ".pth", ".safetensors", ".pt2"):
        from deploykit.models import load_model
        from deploykit.models.detection import RawHeads, is_single_stage

        arch = spec.options.get("arch")
        module = load_model(spec.path, arch=arch, size=config.size, allow_code=config.allow_code).module
        return ModuleTaps(RawHeads(module).eval() if is_single_stage(module) else module, x)
    raise BadInput(f"cannot look inside {spec.path}", expected="a model file or an .onnx graph")


def _inputs_part(
    sides: Sequence[GraphTaps | ModuleTaps],
    runners: tuple[Runner, Runner],
    inputs: tuple[np.ndarray, np.ndarray],
    threshold_db: float,
) -> Parting | None:
    """Whether the networks are already fed differently: their preprocessing parts, inside the graph or outside."""
    fed = []
    for side, runner, x in zip(sides, runners, inputs, strict=True):
        embedded = runner.preprocessing is not None and runner.preprocessing.embedded
        fed.append(side([EMBEDDED])[EMBEDDED] if embedded and _has(side, EMBEDDED) else x)
    pair = Pair("x", "x", "the input", "preprocessing")
    return first_parting([pair], lambda _: {"x": fed[0]}, lambda _: {"x": fed[1]}, threshold_db)


def _has(side: GraphTaps | ModuleTaps, tensor: str) -> bool:
    return any(tap.tensor == tensor for tap in side.taps)


def _pairs(reference: GraphTaps | ModuleTaps, candidate: GraphTaps | ModuleTaps) -> list[Pair]:
    from deploykit.exporting.matching import match_graphs, match_module
    from deploykit.exporting.taps import ModuleTaps

    if isinstance(reference, ModuleTaps) and not isinstance(candidate, ModuleTaps):
        found = match_module(reference.taps, candidate.taps)
    elif isinstance(candidate, ModuleTaps) and not isinstance(reference, ModuleTaps):
        found = [(graph, module) for module, graph in match_module(candidate.taps, reference.taps)]
    else:
        found = match_graphs(reference.taps, candidate.taps)
    pairs = [Pair(r.tensor, c.tensor, c.node, c.op_type, c.module) for r, c in found]
    paired = {pair.candidate for pair in pairs}
    for mine, theirs in zip(_outputs(reference), _outputs(candidate), strict=False):
        if theirs not in paired:
            pairs.append(Pair(mine, theirs, _maker(candidate, theirs).node, _maker(candidate, theirs).op_type))
    return pairs


def _outputs(side: GraphTaps | ModuleTaps) -> list[str]:
    from deploykit.exporting.taps import ModuleTaps

    return [f"@{name}" for name in side.outputs] if isinstance(side, ModuleTaps) else side.outputs


def _maker(side: GraphTaps | ModuleTaps, tensor: str) -> Tap:
    from deploykit.exporting.taps import Tap

    return next((tap for tap in side.taps if tap.tensor == tensor), Tap(tensor, tensor.lstrip("@"), "output", ""))
