"""Cast a float32 ONNX graph to fp16 or bf16, with what its ranges forbid left in float32, and verify the result.

What is verified is the graph with every 16-bit value rounded (:mod:`deploykit.exporting.cast.formats`): this machine's
ONNX Runtime would compute fp16 in float32 and so hide an overflow, and cannot run bf16.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

import numpy as np
import onnx
import onnx_ir as ir

from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.overrides import NOTHING_STATED, Stated
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import SILENT, Progress
from deploykit.data import prepare
from deploykit.evaluation.compare_runners import BATCHES, parity_of
from deploykit.evaluation.graph_runner import Opened
from deploykit.evaluation.judge import Bars, judge, settles
from deploykit.evaluation.parity import Parity
from deploykit.exporting.cast.cast_plan import Plan, is_float_value, plan
from deploykit.exporting.cast.formats import Format, Seen, emulated, format_of
from deploykit.exporting.cast.insert_casts import cast, opened
from deploykit.exporting.check_onnx import refuse_other_pictures
from deploykit.exporting.taps import with_outputs

WORST = (4, 4, 16)
"""How many nodes more go back to float32, those that lose most, where the cast graph is too far from the float one."""
PREFIXES = (0.25, 0.5, 0.75)
"""Else this share of the nodes, from the input on: what is lost early is what later layers enlarge."""


class CastFacts(TypedDict):
    """What a manifest keeps of a cast.

    ``casts``: nodes added to the graph's own. ``kept_float``: nodes that stayed float32 → why. ``images``: whose ranges were
    measured. ``parity``: as a report has it; None where there were no pictures. ``verdict``: of the one judge. ``verified_as``:
    what was run.
    """

    precision: str
    keep_io: bool
    casts: int
    nodes_16_bit: int
    nodes_float: int
    kept_float: dict[str, str]
    opset: int
    images: int
    parity: Mapping[str, Any] | None
    verdict: Mapping[str, Any] | None
    verified_as: str | None


@dataclass(frozen=True)
class Cast:
    """A cast graph in the precision asked for, which its metadata state, and what was found out."""

    proto: onnx.ModelProto
    facts: CastFacts


def cast_graph(
    source: Path,
    precision: str,
    images: Sequence[np.ndarray] | None,
    *,
    held: Sequence[np.ndarray] | None = None,
    preprocessing: Preprocessing | None = None,
    keep_io: bool = True,
    keep_float: Collection[str] = (),
    threads: int = 1,
    stated: Stated = NOTHING_STATED,
    progress: Progress = SILENT,
) -> Cast:
    """Cast the graph in ``source``; a Q/DQ graph keeps its integers, its scales and its float rest are cast.

    Args:
        source: a float32 ``.onnx``, or one with Q/DQ.
        precision: ``fp16`` or ``bf16``.
        images: uint8 ``[H, W, 3]`` each, whose ranges are measured; None: only weights are looked at, nothing is verified.
        held: what is verified on; None: ``images``.
        preprocessing: where the file does not carry it.
        keep_io: inputs and outputs stay float32.
        keep_float: names of nodes, or of operators, that stay float32.
        threads: of the measurement.
        stated: of the file.
        progress: where it shows.

    Raises:
        BadInput: no float32 graph, an unknown name in ``keep_float``, no preprocessing.
        AnswerNo: the cast graph is not valid.

    Where no choice of nodes keeps it within the precision's budget the last one is returned, and its verdict says so.
    """
    low = format_of(precision)
    proto = onnx.load(str(source))
    model = opened(proto, low, str(source))
    _check_names(model, keep_float)
    quantized = any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph)
    with TemporaryDirectory(prefix="deploykit-") as scratch:
        work = _Work(source, model, low, keep_io, tuple(keep_float), "int8" if quantized else precision, progress)
        if images is None:
            made, plan = work.make({}, {})
            return Cast(made, work.facts(made, plan, 0, None))
        runs = Opened(Path(scratch), threads=threads, stated=stated, integer_kernels=False)
        return _measured(work, runs, images, images if held is None else held, preprocessing)


def _check_names(model: ir.Model, keep_float: Collection[str]) -> None:
    known = {node.name or "" for node in model.graph} | {node.op_type for node in model.graph}
    if unknown := sorted(set(keep_float) - known):
        raise BadInput(
            f"no node or operator is called {unknown[0]!r}", fix="`deploykit inspect --layers` lists the nodes."
        )


@dataclass(frozen=True)
class _Work:
    """One cast: what is cast and how."""

    source: Path
    model: ir.Model
    low: Format
    keep_io: bool
    keep_float: tuple[str, ...]
    precision: str
    progress: Progress

    def make(self, seen: Mapping[str, Seen], also: Mapping[str, str]) -> tuple[onnx.ModelProto, Plan]:
        """The graph cast by what was seen, with ``also`` kept in float32."""
        found = plan(self.model, seen, self.low, keep_float=self.keep_float, also=also)
        copy = ir.from_proto(ir.to_proto(self.model))
        proto = ir.to_proto(cast(copy, found, self.low, keep_io=self.keep_io))
        del proto.graph.value_info[:]
        for entry in [one for one in proto.metadata_props if one.key == "deploykit.precision"]:
            proto.metadata_props.remove(entry)
        proto.metadata_props.add(key="deploykit.precision", value=self.precision)
        try:
            onnx.checker.check_model(proto, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise AnswerNo(f"the {self.low.name} graph is not valid: {str(error).splitlines()[0]}") from error
        return proto, found

    def facts(self, made: onnx.ModelProto, plan: Plan, images: int, parity: Parity | None) -> CastFacts:
        """What the manifest keeps."""
        casts = sum(node.op_type == "Cast" for node in made.graph.node)
        before = sum(node.op_type == "Cast" for node in self.model.graph)
        floats = [node for node in self.model.graph if any(map(is_float_value, (*node.inputs, *node.outputs)))]
        kept = [node for node in floats if plan.is_float(node)]
        return {
            "precision": self.low.name,
            "keep_io": self.keep_io,
            "casts": casts - before,
            "nodes_16_bit": len(floats) - len(kept),
            "nodes_float": len(kept),
            "kept_float": {node.name or "": plan.why[node.name or ""] for node in kept},
            "opset": next(one.version for one in made.opset_import if one.domain in ("", "ai.onnx")),
            "images": images,
            "parity": None if parity is None else parity.to_dict(),
            "verdict": None if parity is None else judge(parity, parity.answers, parity.precision).to_dict(),
            "verified_as": None
            if parity is None
            else f"float32 with every {self.low.name} value rounded, by ONNX Runtime on the CPU",
        }


def _measured(
    work: _Work,
    runs: Opened,
    images: Sequence[np.ndarray],
    held: Sequence[np.ndarray],
    preprocessing: Preprocessing | None,
) -> Cast:
    with runs.runner(work.source) as reference:
        reference.preprocessing = known = reference.preprocessing or preprocessing
        if known is None:
            raise BadInput(f"{work.source} does not carry its preprocessing", fix="Name the input size with --size.")
        batch = reference.inputs[0].fixed_batch
        refuse_other_pictures(reference, next(_inputs(held[:1], known, 1)))
        seen = _observe(work, runs, images, known, batch or 1)
        sizes = BATCHES if batch is None else (batch,)
        also: dict[str, str] = {}
        made, plan = work.make(seen, also)
        for step in (*WORST, *PREFIXES, None):
            with runs.proto(emulated(made)) as candidate:
                candidate.preprocessing = known
                parity = parity_of(
                    reference,
                    candidate,
                    held,
                    sizes,
                    work.precision,
                    work.progress,
                    name="float",
                    until=settles(work.precision, Bars()),
                )
            if parity.ok or step is None:
                break
            also = _more(work, runs, made, plan, also, step, next(_inputs(held[: batch or 1], known, batch or 1)))
            made, plan = work.make(seen, also)
    return Cast(made, work.facts(made, plan, len(images), parity))


def _inputs(images: Sequence[np.ndarray], preprocessing: Preprocessing, batch: int) -> Iterator[np.ndarray]:
    """Prepared batches; the last one is filled by repeating pictures."""
    for start in range(0, len(images), batch):
        yield prepare([images[i % len(images)] for i in range(start, start + batch)], preprocessing)


def _float_values(work: _Work) -> list[str]:
    return [value.name or "" for node in work.model.graph for value in node.outputs if is_float_value(value)]


def _observe(
    work: _Work, runs: Opened, images: Sequence[np.ndarray], preprocessing: Preprocessing, batch: int
) -> dict[str, Seen]:
    """Every float value of the graph on the pictures, one batch at a time: memory does not grow with the pictures."""
    names = _float_values(work)
    run = runs.graph(with_outputs(ir.to_proto(work.model), names, alone=True))
    seen = {name: Seen() for name in [*names, *(value.name or "" for value in work.model.graph.inputs)]}
    source = work.model.graph.inputs[0].name or ""
    with work.progress.task("ranges", total=len(images), unit="images") as task:
        for x in _inputs(images, preprocessing, batch):
            for name, values in run(x).items():
                if not np.isfinite(values).all():
                    raise BadInput(
                        f"activation {name!r} holds NaN or infinity in float32", fix="Verify the float model first."
                    )
                seen[name].add(values, work.low, batch)
            if x.dtype == np.float32:
                seen[source].add(x, work.low, batch)
            task.advance(len(x))
    return seen


def _more(
    work: _Work, runs: Opened, made: onnx.ModelProto, plan: Plan, also: dict[str, str], step: float, x: np.ndarray
) -> dict[str, str]:
    """What stays float32 beside the plan's in the next attempt: ``step`` nodes more, or that share of all."""
    if step < 1:
        order = [node.name or "" for node in work.model.graph]
        work.progress.say(f"{work.low.name} is too far from float: the first {step:.0%} of the nodes stay float32")
        return dict.fromkeys(order[: round(step * len(order))], "among the first nodes")
    lost = _lost(work, runs, made, plan, x)
    picked = sorted(lost, key=lambda name: -lost[name])[: int(step)]
    work.progress.say(f"{work.low.name} is too far from float: {len(picked)} nodes that lose most stay float32")
    return also | {name: f"loses {lost[name]:.0f} dB" for name in picked}


def _lost(work: _Work, runs: Opened, made: onnx.ModelProto, plan: Plan, x: np.ndarray) -> dict[str, float]:
    """Node → decibels between the SNR of its worst input and of its output in the cast graph; 800 where it overflows."""
    rounded = emulated(made)
    there = {name for node in rounded.graph.node for name in node.output}
    names = sorted(set(_float_values(work)) & there)
    graphs = [runs.graph(with_outputs(proto, names, alone=True)) for proto in (ir.to_proto(work.model), rounded)]
    exact, found = (run(x) for run in graphs)
    snr = {name: _snr_db(exact[name], found[name]) for name in names}
    lost = {}
    for node in work.model.graph:
        outs = [snr[out.name or ""] for out in node.outputs if out.name in snr]
        if outs and not plan.is_float(node):
            ins = [snr[value.name or ""] for value in node.inputs if value is not None and value.name in snr]
            lost[node.name or ""] = min(800.0, min([*ins, work.low.nominal_snr_db]) - min(outs))
    return lost


def _snr_db(exact: np.ndarray, found: np.ndarray) -> float:
    with np.errstate(invalid="ignore", over="ignore"):
        noise = float(((exact.astype(np.float64) - found) ** 2).sum())
        power = float((exact.astype(np.float64) ** 2).sum())
    if not np.isfinite(noise):
        return -800.0
    return 200.0 if noise == 0 or power == 0 else float(10 * np.log10(power / noise))
