"""What an int8 file is judged by: what of it runs on integers, and its own target's answers, audit and speed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import onnx

from deploykit.base.errors import Unavailable
from deploykit.base.runner import Runner
from deploykit.base.spec import Spec
from deploykit.config.quantize import QuantizeConfig
from deploykit.engines import open_runner
from deploykit.engines.batching import one_batch
from deploykit.evaluation.compare_runners import BATCHES, parity_of
from deploykit.evaluation.judge import Bars, Drop, judge, judged_again, settles, verdict_of
from deploykit.evaluation.split_images import Pictures
from deploykit.latency.interleave import interleaved_s
from deploykit.quantization.job import Job
from deploykit.quantization.lint.explain_audit import audited
from deploykit.quantization.max_drop import DropFacts

FLOAT_CONVS = ("Conv", "FusedConv")
FLOAT_PRODUCTS = ("Gemm", "MatMul", "FusedGemm", "FusedMatMul")
INTEGER = ("QGemm", "MatMulIntegerToFloat", "Min", "NhwcMaxPool", "Tile")
MOVES = ("Transpose", "ReorderInput", "ReorderOutput", "QuantizeLinear", "DequantizeLinear")


class Judged(TypedDict):
    """How an int8 file does.

    ``parity``: as a report has it. ``verdict``: of the one judge. ``audit``: what runs on integers, as the engine tells it
    or as the file offers it. ``measured``: whether the target runs here. ``speedup``: over float, compute only, batch 1 or the file's fixed one; None
    where not measured.
    """

    parity: Mapping[str, Any]
    verdict: Mapping[str, Any]
    audit: Mapping[str, object] | None
    measured: bool
    speedup: float | None


def judged_there(right: Runner, name: str, plain: Path, candidate: Path, x: np.ndarray, job: Job) -> Judged | None:
    """Parity, audit and speed-up on the job's target; None where it is not installed, which is said.

    ``right``: what the candidate should answer, called ``name``. ``plain``: the float file, which the speed-up is over.
    ``x``: prepared pictures, the first of which is timed.
    """
    target, opened = job.dialect.target, job.opened

    def runner_of(path: Path) -> Runner:
        return open_runner(Spec(path.stem, path, target), threads=opened.threads, stated=opened.stated)

    try:
        runner = runner_of(candidate)
    except Unavailable as error:
        job.progress.warn(f"not measured on {target}: {error.line()}")
        return None
    with runner, runner_of(plain) as reference:
        parity, verdict = verdict_of_pair(right, runner, job, name=name)
        speedup, audit = speedup_of(reference, runner, x), audited(runner)
    return {"parity": parity, "verdict": verdict, "audit": audit, "measured": True, "speedup": speedup}


def verdict_of_pair(
    right: Runner, runner: Runner, job: Job, *, name: str
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Parity of ``runner`` with ``right``, called ``name``, and the verdict on it, as manifests keep both."""
    config, pictures = job.config, job.images.judged or Pictures(job.images.chosen, job.images.name)
    bars = Bars(config.min_agreement, config.min_snr_db, accept=config.accept)
    parity = parity_of(
        right, runner, pictures.images, BATCHES, "int8", job.progress, name=name, until=settles("int8", bars)
    )
    return parity.to_dict(), judge(parity, parity.answers, "int8", bars, split=pictures.shown).to_dict()


def with_drop(verdict: Mapping[str, Any], held: DropFacts, config: QuantizeConfig) -> Mapping[str, Any]:
    """The verdict, held to ``--max-drop`` too."""
    drop = Drop(held["drop_pt"], held["drop_pt_low"], held["drop_pt_high"], held["pictures"])
    bars = Bars(config.min_agreement, config.min_snr_db, config.max_drop, config.accept)
    return judged_again(replace(verdict_of(verdict), drop=drop), bars).to_dict()


def speedup_of(reference: Runner, runner: Runner, x: np.ndarray) -> float:
    """Time of ``reference`` over that of ``runner``, measured in turns on the first of ``x``."""
    times = interleaved_s({"float": reference, "int8": runner}, one_batch(reference, x), rounds=30)
    return round(times["float"] / times["int8"], 3)


class OfferedInt8(TypedDict):
    """Convolutions of a quantized network: how many, how many of them integers, and the names of the others."""

    convs: int
    int8_convs: int
    float_convs: list[str]


class ShareOfInt8(OfferedInt8):
    """Counts over an optimized graph.

    ``float_products``: matrix products in float. ``float_nodes``: that compute in float. ``reformats``: transposes,
    reorders, Q and DQ left over.
    """

    float_products: int
    float_nodes: int
    reformats: dict[str, int]


def share_of_int8(optimized: onnx.ModelProto) -> ShareOfInt8:
    """Counts over an optimized graph."""
    ops = Counter(node.op_type for node in optimized.graph.node)
    int8 = ops["QLinearConv"] + ops["ConvInteger"]
    left = [node.name for node in optimized.graph.node if node.op_type in FLOAT_CONVS]
    integer = sum(count for op, count in ops.items() if op.startswith("QLinear") or op in INTEGER)
    moves = {op: ops[op] for op in MOVES if ops[op]}
    return {
        "convs": int8 + len(left),
        "int8_convs": int8,
        "float_convs": left,
        "float_products": sum(ops[op] for op in FLOAT_PRODUCTS),
        "float_nodes": sum(ops.values()) - integer - sum(moves.values()),
        "reformats": moves,
    }


def weight_widths(quantized: onnx.ModelProto) -> dict[str, float]:
    """Layer → bits that its int8 weights use, the mean over output channels of what their largest integers need."""
    stored = {tensor.name: tensor for tensor in quantized.graph.initializer}
    weights = {node.output[0]: node.input[0] for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    found = {}
    for node in quantized.graph.node:
        tensor = stored.get(weights.get(node.input[1], "")) if len(node.input) > 1 else None
        if tensor is None:
            continue
        integers = np.abs(onnx.numpy_helper.to_array(tensor).astype(np.int16))
        transposed = any(one.name == "transB" and one.i for one in node.attribute)
        rows = integers if node.op_type == "Conv" or transposed else np.moveaxis(integers, -1, 0)
        largest = rows.reshape(len(rows), -1).max(axis=1)
        found[node.name] = round(1 + float(np.log2(largest[largest > 0] + 1).mean()), 2) if largest.any() else 0.0
    return found


def offered_int8(quantized: onnx.ModelProto) -> OfferedInt8:
    """Counts over a Q/DQ file, for an engine that does not run here: what the file offers it as integers, which are
    convolutions whose picture and weight come from a DQ.
    """
    dequantized = {out for node in quantized.graph.node if node.op_type == "DequantizeLinear" for out in node.output}
    convs = [node for node in quantized.graph.node if node.op_type == "Conv"]
    left = [node.name for node in convs if not set(node.input[:2]) <= dequantized]
    return {"convs": len(convs), "int8_convs": len(convs) - len(left), "float_convs": left}
