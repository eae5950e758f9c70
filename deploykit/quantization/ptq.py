"""The steps that ``deploykit quantize`` is made of, whichever way the ranges come: data, float graph, choice, verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from deploykit.base import environment
from deploykit.base.artifact import Manifest, claimed, write_model_manifest
from deploykit.base.atomic import write_bytes
from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.base.runner import Runner
from deploykit.base.targets import target_of
from deploykit.config.export import ExportConfig
from deploykit.config.options import FileFlags
from deploykit.config.quantize import QuantizeConfig
from deploykit.data import prepare as prepare_images
from deploykit.evaluation.graph_runner import outputs_of
from deploykit.exporting.check_onnx import known_preprocessing, refuse_other_pictures
from deploykit.exporting.onnx_file import float_graph
from deploykit.quantization.calibrate import observed
from deploykit.quantization.engine_gap import for_engine
from deploykit.quantization.job import Job, Seen
from deploykit.quantization.lint.lint import by_rule, findings_of
from deploykit.quantization.max_drop import is_float
from deploykit.quantization.qdq.dialects import Dialect
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.search import (
    Choice,
    Quantizer,
    choose_float_parts,
    choose_prefix,
    choose_ranges,
    planned,
)
from deploykit.quantization.verify import Judged, judged_there, offered_int8, share_of_int8, speedup_of, verdict_of_pair
from deploykit.reporting.attachments import Attachment
from deploykit.reporting.attachments.files import attach

MEASURED = ("speedup", "slower")


def float_onnx(source: Path, scratch: Path, config: QuantizeConfig, progress: Progress) -> Path:
    """The model as an ``.onnx`` file: itself, or exported into ``scratch``."""
    said = {name: getattr(config, name) for name in FileFlags.model_fields}
    options = ExportConfig(**said, arch=config.arch, allow_code=config.allow_code, threads=config.threads)
    return float_graph(source, scratch, options, progress)[0]


def linted(made: onnx.ModelProto, dialect: Dialect, progress: Progress) -> list[dict[str, object]]:
    """What the target will not like in the file just made; a break is an answer of its own."""
    target = dialect.target
    found = findings_of(made, target, dialect.isa)
    broken = by_rule([finding for finding in found if finding.breaks])
    if broken:
        raise AnswerNo(f"{target} would not run this file: {broken[0]}")
    for line in by_rule(found):
        progress.say(line)
    return [asdict(finding) for finding in found]


def see(path: Path, reference: Runner, job: Job) -> Seen:
    """Calibrate the float graph at ``path``, which ``reference`` runs.

    Raises:
        BadInput: the graph does not carry its preprocessing, cannot be quantized, or has no node that is to stay float.
    """
    preprocessing = known_preprocessing(reference.preprocessing, reference.inputs, path)
    proto = onnx.load(str(path))
    wide = prepare(proto, str(path))
    check_kept(proto, job)
    pictures = prepare_images(job.images.chosen, preprocessing)
    refuse_other_pictures(reference, pictures[:1])
    quantizer = Quantizer(proto, observed(wide, preprocessing, job), job.config.percentile, job.dialect)
    x = pictures[: min(job.config.select_images, job.effort.images)]
    outputs = outputs_of(reference, x)
    kept, gap = for_engine(quantizer, Choice(keep_float=frozenset(job.config.keep_float)), x, outputs, job)
    return Seen(proto, preprocessing, reference.classes, quantizer, pictures, x, outputs, kept.keep_float, gap)


def check_kept(proto: onnx.ModelProto, job: Job) -> None:
    """Plan the network once, and refuse names of nodes that it does not have.

    Raises:
        BadInput: no such node; a network that cannot be quantized.
    """
    keep = job.config.keep_float
    model, _ = planned(proto, Choice(keep_float=frozenset(keep)), job.dialect)
    unknown = set(keep) - {node.name for node in model.graph}
    if unknown:
        raise BadInput(f"no node is called {sorted(unknown)[0]!r}", fix="`deploykit inspect --layers` lists them.")


def choose(seen: Seen, job: Job, placement: Mapping[str, Any] | None = None) -> tuple[Choice, dict[str, float]]:
    """What stays float and how ranges are chosen, by predicted cost and error; with the SNR in dB of each method.

    ``placement``: fields of the choice that are decided already.
    """
    config, quantizer, effort, say = job.config, seen.quantizer, job.effort, job.progress.say
    base = Choice(keep_float=seen.kept, **(placement or {}))
    costs, near = partial(job.costs_us, x=seen.x), partial(job.near_db, seen=seen)
    methods = effort.methods if config.method in ("auto", "qat") else (config.method,)
    if quantizer.dialect.costed and not config.force_int8 and placement is None:
        lines: list[str] = []
        chosen = choose_prefix(quantizer, base, costs, near, effort.looked_at, lines.append)
        chosen, snr = choose_ranges(quantizer, chosen, methods, near, lines.append)
        if effort.parts:
            chosen = choose_float_parts(quantizer, chosen, costs, near, effort.looked_at, lines.append)
        if not is_float(quantizer.make(chosen)):
            for line in lines:
                say(line)
            return chosen, snr
        say("int8 is not predicted to be faster anywhere in this network: all of it is made int8")
    return choose_ranges(quantizer, base, methods, near, say)


def refuse_float(made: onnx.ModelProto, choice: Choice, source: Path, target: str) -> None:
    """Where nothing of the network can be int8, say so instead of writing a float file.

    ``made``: the network of ``choice``. ``source``: the model, for the message.

    Raises:
        AnswerNo: no layer can be quantized.
    """
    if is_float(made):
        kept = " beside those of --keep-float" if choice.keep_float else ""
        raise AnswerNo(f"{source} has no layer{kept} that can be int8 on {target}: nothing was quantized")


def judge(reference: Runner, candidate: Path, x: np.ndarray, job: Job, *, right: Runner | None = None) -> Judged:
    """Parity, the audit of what runs on integers, and the speed-up measured here.

    ``reference``: the float network in the same engine. ``x``: prepared pictures, the first of which is timed. ``right``:
    what the candidate should answer; None: ``reference``. A file for another engine on the CPU is judged there, where
    that is installed. A dialect of an engine that is not is executed as it stands, in float: its answers are checked, its
    speed is not claimed, and the audit counts what the file offers the engine.
    """
    name, opened, target = "float" if right is None else "trained", job.opened, job.dialect.target
    right = right or reference
    with opened.runner(candidate) as runner:
        if target_of(target).on_cpu and not job.dialect.costed:
            there = judged_there(right, name, reference.spec.path, candidate, x, job)
            if there is not None:
                return there
        parity, verdict = verdict_of_pair(right, runner, job, name=name)
        if not job.dialect.costed:
            offered = offered_int8(onnx.load(str(candidate)))
            return {"parity": parity, "verdict": verdict, "audit": offered, "measured": False, "speedup": None}
        speedup = speedup_of(reference, runner, x) if job.dialect.isa == environment.isa() else None
        audit = share_of_int8(job.optimized(candidate))
    measured = speedup is not None
    return {"parity": parity, "verdict": verdict, "audit": audit, "measured": measured, "speedup": speedup}


def describe(made: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Carry the metadata over, with the new precision."""
    del made.metadata_props[:]
    entries = {entry.key: entry.value for entry in source.metadata_props}
    entries["deploykit.precision"] = "int8"
    for key in sorted(entries):
        made.metadata_props.add(key=key, value=entries[key])


def write_int8(
    target: Path,
    made: onnx.ModelProto,
    manifest: Manifest,
    preprocessing: Preprocessing,
    classes: tuple[str, ...] | None,
    facts: Mapping[str, object],
    attachments: Sequence[Attachment] = (),
) -> Manifest:
    """Write the file whole or not at all, what the report shows of it, and its manifest, which is returned.

    Of ``facts`` those that a stopwatch told stand under ``measured``.
    """
    measured = {name: facts[name] for name in MEASURED if name in facts}
    facts = {name: fact for name, fact in facts.items() if name not in MEASURED}
    write_bytes(target, made.SerializeToString(deterministic=True), claimed(target))
    attach(target, attachments)
    return write_model_manifest([target], manifest, preprocessing, classes, facts, measured=measured)
