"""The ONNX file that goes into a builder: checked, linted, and in the precision asked for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.base.artifact import Manifest
from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.base.targets import target_names, target_of
from deploykit.base.task import Task
from deploykit.engines.metadata import of_file
from deploykit.engines.onnx_graph import declared_by
from deploykit.exporting.cast.cast import cast_graph
from deploykit.exporting.check_onnx import described, refuse_not_finite, refuse_outside_indices

if TYPE_CHECKING:
    import onnx

    from deploykit.config.build import BuildConfig
    from deploykit.data import DataSource, Split

QDQ = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Graph:
    """What is built.

    Attributes:
        path: of the ONNX file: the source, or a cast of it in a scratch folder.
        preprocessing: as a dictionary, or None where nothing tells it.
        classes: or None.
        task: what its outputs mean.
        notes: what to say of it.
        precision: of its layers that multiply.
        float_precision: of its float part.
        cast: what the manifest keeps of the cast; None where it is the source.
    """

    path: Path
    preprocessing: Mapping[str, Any] | None
    classes: tuple[str, ...] | None
    task: Task
    notes: list[str]
    precision: str
    float_precision: str
    cast: Mapping[str, object] | None

    def described(self, manifest: Manifest, facts: Mapping[str, Any]) -> Manifest:
        """``manifest`` of what was built of it, with what is known of it and ``facts``, whose precision counts."""
        return replace(
            manifest,
            preprocessing=self.preprocessing,
            classes=self.classes,
            task=self.task,
            precision=facts["precision"],
            facts=facts,
        )


def prepared_graph(source: Path, scratch: Path, config: BuildConfig, progress: Progress) -> Graph:
    """Check a file for its target and cast it where another precision is asked for.

    Raises:
        BadInput: damaged, indices point outside, or its Q/DQ break the target.
    """
    facts = described(source)
    quantized = any(op in facts["operators"] for op in QDQ)
    notes: list[str] = []
    refuse_not_finite(source, facts)
    if quantized:
        notes += _linted(source, config.target)
    known = of_file(source, declared_by(source), config.stated)
    preprocessing = known.preprocessing.to_dict() if known.preprocessing is not None else None
    if preprocessing is None:
        notes.append("the file does not carry its preprocessing: name the size when the engine is run (--size)")
    proto = _loaded(source)
    refuse_outside_indices(proto, str(source))
    path, said, cast_facts = _in_precision(source, proto, scratch, config, known.preprocessing, progress)
    if path != source:
        proto = _loaded(path)
    if config.sparse:
        said = [*said, sparse_note(proto)]
    own, rest = precision_of(proto)
    return Graph(path, preprocessing, known.classes, known.task, [*known.notes, *notes, *said], own, rest, cast_facts)


def _in_precision(
    source: Path,
    proto: onnx.ModelProto,
    scratch: Path,
    config: BuildConfig,
    preprocessing: Preprocessing | None,
    progress: Progress,
) -> tuple[Path, list[str], Mapping[str, object] | None]:
    """The file in the precision asked for, what to say of that, and the facts of the cast."""
    own, rest = precision_of(proto)
    if config.precision == "fp8" and own == "int8":
        return _as_fp8(source, proto, scratch, config.target)
    if config.precision not in ("fp16", "bf16") or rest != "fp32":
        return source, [], None
    import onnx

    images = _pictures(config, progress)
    made = cast_graph(
        source, config.precision, images, preprocessing=preprocessing, stated=config.stated, progress=progress
    )
    path = scratch / f"{source.stem}.{config.precision}.onnx"
    onnx.save(made.proto, str(path))
    facts, parity = made.facts, made.facts["parity"]
    if facts["verdict"] is not None and facts["verdict"]["status"] == "failed":
        raise AnswerNo(
            f"{source} in {config.precision} is too far from float: {'; '.join(facts['verdict']['reasons'])}",
            fix="Export it with --precision and --keep-float, and build that file.",
        )
    told = {key: value for key, value in facts.items() if key not in ("parity", "verdict")}
    told["snr_db"] = None if parity is None else parity["snr_db"]
    if images is None or parity is None:
        checked = "no --data: activations were not measured, and the cast is not verified"
    else:
        checked = f"ranges of {len(images)} pictures, SNR {parity['snr_db']:.1f} dB"
    kept = f"{facts['nodes_float']} nodes stay fp32" if facts["nodes_float"] else "every node"
    return path, [f"cast to {config.precision}: {kept}, {facts['casts']} casts; {checked}"], told


def split_seen(data: DataSource) -> Split:
    """The split whose pictures a cast measures: ``select``, or ``train`` where that is empty."""
    split = data.split("select")
    return split if len(split) else data.split("train")


def _pictures(config: BuildConfig, progress: Progress) -> list[np.ndarray] | None:
    if config.data is None:
        return None
    from deploykit.data import open_data

    split = split_seen(
        open_data(config.data, allow_code=config.allow_code, skip_broken=config.skip_broken, progress=progress)
    )
    return [split.image(i) for i in range(min(config.images, len(split)))]


def _as_fp8(
    source: Path, proto: onnx.ModelProto, scratch: Path, target: str
) -> tuple[Path, list[str], Mapping[str, object] | None]:
    if "fp8" not in target_of(target).precisions:
        able = target_names(lambda row: "fp8" in row.precisions)
        raise BadInput(f"{target} has no fp8", expected=" or ".join(able))
    import onnx

    from deploykit.engines.tensorrt.fp8 import to_fp8

    made, pairs = to_fp8(proto, str(source), target)
    path = scratch / f"{source.stem}.fp8.onnx"
    onnx.save(made, str(path))
    said = f"int8 Q/DQ turned into fp8 (E4M3) over the same ranges: {pairs} nodes; weights were rounded twice"
    return path, [said], {"precision": "fp8", "pairs": pairs}


def precision_of(model: onnx.ModelProto) -> tuple[str, str]:
    """Precision of a file, ``int8`` or ``fp8`` where it has such Q/DQ, and that of its float part.

    The float part is what most of its stored floating values are in: weights, or scales and biases beside integers.
    """
    from onnx import TensorProto

    floats = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}
    counts: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        if tensor.data_type in floats:
            counts[floats[tensor.data_type]] += max(1, math.prod(tensor.dims))
    rest = counts.most_common(1)[0][0] if counts else "fp32"
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    zeros = {kinds.get(node.input[2]) for node in model.graph.node if node.op_type in QDQ and len(node.input) > 2}
    integer = any(node.op_type.startswith("QLinear") or node.op_type in QDQ for node in model.graph.node)
    if zeros & {TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2}:
        return "fp8", rest
    return ("int8" if integer else rest), rest


def sparse_note(model: onnx.ModelProto) -> str:
    """How many weights have at most two of four values in a row that are not zero, along their input channels."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {out: node for node in model.graph.node for out in node.output}
    fitting = count = 0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        maker = makers.get(node.input[1])
        name = maker.input[0] if maker is not None and maker.op_type == "DequantizeLinear" else node.input[1]
        if name not in stored:
            continue
        weight = numpy_helper.to_array(stored[name])
        transposed = any(one.name == "transB" and one.i for one in node.attribute)
        along = np.moveaxis(weight, 1 if node.op_type == "Conv" or transposed else 0, -1)
        count += 1
        if along.shape[-1] % 4 == 0:
            fitting += int((np.count_nonzero(along.reshape(-1, 4), axis=1) <= 2).all())
    if not fitting:
        return (
            f"none of {count} weights has the 2:4 pattern, so --sparse changes nothing: prune with --pattern 2:4 first"
        )
    return f"{fitting} of {count} weights have the 2:4 pattern, which sparse kernels may use"


def _linted(source: Path, target: str) -> list[str]:
    """Notes of the linter; what breaks the target is an error that names the node."""
    from deploykit.quantization.lint.lint import by_rule, findings_of

    if target_of(target).dialect is None:
        return []
    found = findings_of(_loaded(source), target)
    broken = by_rule([one for one in found if one.breaks])
    if broken:
        more = f" (and {len(broken) - 1} more kinds)" if len(broken) > 1 else ""
        raise BadInput(f"{source} is not in the Q/DQ dialect of {target}: {broken[0]}{more}")
    return by_rule(found)


def _loaded(source: Path) -> onnx.ModelProto:
    import onnx

    return onnx.load(str(source))
