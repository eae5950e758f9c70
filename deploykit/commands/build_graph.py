"""The ONNX file that goes into a builder: checked, linted, and in the precision asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit.base.errors import BadInput
from deploykit.base.progress import Progress

if TYPE_CHECKING:
    import onnx

    from deploykit.base.config.build import BuildConfig

QDQ = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Graph:
    """What is built.

    Attributes:
        path: of the ONNX file: the source, or a cast of it in a scratch folder.
        preprocessing: as a dictionary, or None where nothing tells it.
        classes: or None.
        notes: what to say of it.
        facts: what the manifest keeps of the preparation.
    """

    path: Path
    preprocessing: dict[str, Any] | None
    classes: tuple[str, ...] | None
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def prepared_graph(source: Path, scratch: Path, config: BuildConfig, progress: Progress) -> Graph:
    """Check a file for its target and cast it where another precision is asked for.

    Raises:
        BadInput: damaged, or its Q/DQ break the target.
    """
    from deploykit.engines.knowledge import of_file

    facts = _described(source)
    quantized = any(op in facts["operators"] for op in QDQ)
    notes: list[str] = []
    if facts["not_finite"]:
        raise BadInput(f"{source} holds weights that are not finite", got=facts["not_finite"][0])
    if quantized:
        notes += _linted(source, config.target)
    embedded = facts["inputs"][0]["dtype"] == "uint8" if facts["inputs"] else False
    known = of_file(source, _metadata(source), size=config.size, embedded=embedded)
    preprocessing = known.preprocessing.to_dict() if known.preprocessing is not None else None
    if preprocessing is None:
        notes.append("the file does not carry its preprocessing: name the size when the engine is run (--size)")
    own, rest = precision_of(_loaded(source))
    facts_kept = {"precision": own, "float_precision": rest}
    return Graph(source, preprocessing, known.classes, [*known.notes, *notes], facts_kept)


def precision_of(model: onnx.ModelProto) -> tuple[str, str]:
    """Precision of a file, ``int8`` or ``fp8`` where it has such Q/DQ, and that of its float part.

    The float part is what most of its stored floating values are in: weights, or scales and biases beside integers.
    """
    from collections import Counter

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


def _described(source: Path) -> dict[str, Any]:
    """Facts of the file; where its nodes are not as ONNX has them, the checker's own words."""
    import onnx

    from deploykit.exporting.describing import describe_onnx

    try:
        return describe_onnx(source)[0]
    except (IndexError, KeyError, TypeError) as error:
        try:
            onnx.checker.check_model(str(source))
        except onnx.checker.ValidationError as found:
            text = " ".join(str(found).split())[:250]
            raise BadInput(f"{source} is no valid ONNX file: {text}", fix="Export or copy it again.") from error
        raise


def _metadata(source: Path) -> dict[str, str]:
    import onnx

    return {prop.key: prop.value for prop in onnx.load(str(source), load_external_data=False).metadata_props}


def _linted(source: Path, target: str) -> list[str]:
    """Notes of the linter; what breaks the target is an error that names the node."""
    from deploykit.commands.lint import by_rule, findings_of

    if target == "ort-cuda":
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
