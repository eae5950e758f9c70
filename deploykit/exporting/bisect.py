"""Where two artifacts part (``verify --bisect``): the first tensor, in the order of computation, whose SNR is too low.

Errors grow and shrink along a network (a saturating activation hides one, a residual branch brings it back), so the
tensors are looked at one after the other and not by halving. They are fetched in chunks: memory holds one chunk of both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from deploykit.base.atomic import JsonObject
from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.base.runner import Runner
from deploykit.base.spec import Spec
from deploykit.config.verify import VerifyConfig
from deploykit.evaluation.compare_runners import prepared, preprocessings
from deploykit.evaluation.parity import Parity
from deploykit.evaluation.snr import Sums, budget_of
from deploykit.evaluation.split_images import Pictures
from deploykit.exporting.taps import GraphTaps, ModuleTaps, Tap, match_graphs, match_module

Fetch = Callable[[Sequence[str]], Mapping[str, np.ndarray]]
CHUNK = 8


@dataclass(frozen=True)
class Pair:
    """The same tensor on both sides.

    ``reference``: its name there. ``candidate``: its name here. ``node``: the candidate's node that makes it.
    ``module``: the network's module it came from; empty where not known.
    """

    reference: str
    candidate: str
    node: str
    op_type: str
    module: str = ""


@dataclass(frozen=True)
class Parting:
    """Where the two part.

    Attributes:
        node: the first node whose output is beyond the threshold.
        op_type: its operator.
        module: the network's module it came from; empty where not known.
        snr_db: of its output; None where it has NaN or infinite numbers, or the reference is all zero.
        nan: its output has NaN or infinite numbers.
        before: the compared node before it, or None where it is the first.
        snr_before_db: of that one's output; None where identical, or where there is none.
        threshold_db: SNR below which two tensors count as parted.
        compared: how many tensors were compared up to there.
        total: how many could be.
    """

    node: str
    op_type: str
    module: str
    snr_db: float | None
    nan: bool
    before: str | None
    snr_before_db: float | None
    threshold_db: float
    compared: int
    total: int

    def to_dict(self) -> JsonObject:
        """JSON-able."""
        return asdict(self)

    def line(self) -> str:
        """One sentence for people."""
        place = f" of module {self.module}" if self.module else ""
        here = (
            "NaN or infinite numbers" if self.nan else "no signal" if self.snr_db is None else f"{self.snr_db:.1f} dB"
        )
        if self.before is None:
            start = "the first tensor compared"
        else:
            start = (
                f"after {self.before} ({'identical' if self.snr_before_db is None else f'{self.snr_before_db:.1f} dB'})"
            )
        return f"they part at {self.node} ({self.op_type}{place}): {here}, {start}"


def first_parting(
    pairs: Sequence[Pair],
    reference: Fetch,
    candidate: Fetch,
    threshold_db: float,
    *,
    chunk: int = CHUNK,
    progress: Progress = SILENT,
) -> Parting | None:
    """The first pair whose SNR is below ``threshold_db``, or None where all agree.

    ``pairs``: in the order of computation. ``reference``: name list → arrays of the reference, by name. ``candidate``:
    the same of the candidate. ``threshold_db``: in dB. ``chunk``: pairs fetched at once.
    """
    before, before_db, compared = None, None, 0
    with progress.task("bisect", total=len(pairs), unit="tensors") as task:
        for start in range(0, len(pairs), chunk):
            part = pairs[start : start + chunk]
            mine = reference([pair.reference for pair in part])
            theirs = candidate([pair.candidate for pair in part])
            for pair in part:
                r, c = mine[pair.reference], theirs[pair.candidate]
                if r.shape != c.shape or not np.issubdtype(r.dtype, np.floating):
                    continue
                compared += 1
                sums = Sums()
                sums.add(r, c)
                if sums.broken or not (sums.identical or (sums.snr_db is not None and sums.snr_db >= threshold_db)):
                    return Parting(
                        node=pair.node,
                        op_type=pair.op_type,
                        module=pair.module,
                        snr_db=sums.snr_db,
                        nan=sums.broken,
                        before=before,
                        snr_before_db=before_db,
                        threshold_db=threshold_db,
                        compared=compared,
                        total=len(pairs),
                    )
                before, before_db = pair.node, sums.snr_db
            task.advance(len(part))
    return None


EMBEDDED = "preprocessing/Transpose"


def worst_parting(
    specs: tuple[Spec, Spec],
    runners: tuple[Runner, Runner],
    pictures: Pictures,
    parity: Parity,
    config: VerifyConfig,
    progress: Progress,
) -> Parting | None:
    """Where the candidate leaves the reference on the worst pictures, four at most, or as many as a fixed batch takes."""
    fixed = next((r.inputs[0].fixed_batch for r in runners if r.inputs[0].fixed_batch is not None), None)
    ranked = [entry["index"] for entry in parity.worst] + list(range(len(pictures.images)))
    chosen = list(dict.fromkeys(ranked))[: fixed or 4]
    chosen = (chosen * (fixed or 1))[: fixed or len(chosen)]
    images = [pictures.images[index] for index in chosen]
    ways = preprocessings(*runners)
    inputs = (prepared(images, ways[0]), prepared(images, ways[1]))
    return find_parting(specs, runners, inputs, config, budget_of(parity.precision).snr_db, progress)


def find_parting(
    specs: tuple[Spec, Spec],
    runners: tuple[Runner, Runner],
    inputs: tuple[np.ndarray, np.ndarray],
    config: VerifyConfig,
    threshold_db: float,
    progress: Progress = SILENT,
) -> Parting | None:
    """The first layer where the candidate leaves the reference, computed on the CPU.

    ``specs``: of reference and candidate. ``runners``: theirs, for the declared inputs. ``inputs``: what each takes for
    the same pictures. ``threshold_db``: SNR below which two tensors count as parted.

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
    suffix = Path(spec.path).suffix.lower()
    if suffix == ".onnx":
        return GraphTaps(spec.path, x, config.threads)
    if suffix in (".pt", ".pth", ".safetensors", ".pt2"):
        from deploykit.models import load_model
        from deploykit.models.detection import RawHeads, is_single_stage

        arch = spec.options.get("arch")
        module = load_model(spec.path, arch=arch, stated=config.stated, allow_code=config.allow_code).module
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
        there = embedded and any(tap.tensor == EMBEDDED for tap in side.taps)
        fed.append(side([EMBEDDED])[EMBEDDED] if there else x)
    pair = Pair("x", "x", "the input", "preprocessing")
    return first_parting([pair], lambda _: {"x": fed[0]}, lambda _: {"x": fed[1]}, threshold_db)


def _pairs(reference: GraphTaps | ModuleTaps, candidate: GraphTaps | ModuleTaps) -> list[Pair]:
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
    return [f"@{name}" for name in side.outputs] if isinstance(side, ModuleTaps) else side.outputs


def _maker(side: GraphTaps | ModuleTaps, tensor: str) -> Tap:
    return next((tap for tap in side.taps if tap.tensor == tensor), Tap(tensor, tensor.lstrip("@"), "output", ""))
