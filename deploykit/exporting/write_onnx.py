"""Write an ONNX file, with its weights beside it where one protobuf cannot hold them, and check what was written.

Both come to their place together, or not at all.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import onnx
import onnx_ir as ir

from deploykit.base.artifact import files_of, is_claimed, manifest_path, read_manifest, write_claim
from deploykit.base.errors import AnswerNo, BadInput

PROTOBUF_LIMIT = 2_000_000_000


def data_path(path: Path) -> Path:
    """Where the weights of a large model go: ``model.onnx`` → ``model.onnx.data``."""
    return path.with_name(path.name + ".data")


def write(model: ir.Model, path: Path, *, limit: int = PROTOBUF_LIMIT) -> list[Path]:
    """Write ``path``, and ``path.data`` where the weights take more than ``limit`` bytes.

    Returns the files written, the ONNX file first.
    """
    size = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    if size <= limit:
        ir.save(model, path)
        return [path]
    ir.save(model, path, external_data=data_path(path).name, size_threshold_bytes=1024)
    return [path, data_path(path)]


def check(path: Path, *, opset: int, batch: int | str, outputs: list[str]) -> None:
    """Read the file back and hold it against what was asked for.

    Raises:
        AnswerNo: the ONNX checker refuses it, or opset, input, outputs or their batch are others than asked for.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise AnswerNo(f"the ONNX checker refuses the file: {str(error).splitlines()[0]}") from error
    model = onnx.load(str(path), load_external_data=False)
    written = {one.domain or "ai.onnx": one.version for one in model.opset_import}
    if written.get("ai.onnx") != opset:
        raise AnswerNo(f"opset {written.get('ai.onnx')} was written instead of {opset}")
    if foreign := sorted({n.domain for n in model.graph.node} - {"", "ai.onnx"}):
        raise AnswerNo(f"the graph holds operators outside ONNX: {', '.join(foreign)}")
    names = [value.name for value in model.graph.input]
    if names != ["input"]:
        raise AnswerNo("the graph has other inputs than asked for", got=names, expected=["input"])
    names = [value.name for value in model.graph.output]
    if names != outputs:
        raise AnswerNo("the graph has other outputs than asked for", got=names, expected=outputs)
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        first = (dims[0].dim_param or dims[0].dim_value) if dims else None
        if first != batch:
            raise AnswerNo(f"dimension 0 of {value.name!r} is not the batch", got=first, expected=batch)


def count_nodes(path: Path) -> dict[str, int]:
    """Operator → number of its nodes, most frequent first."""
    graph = onnx.load(str(path), load_external_data=False).graph
    return dict(Counter(node.op_type for node in graph.node).most_common())


def place(folder: Path, target: Path, names: list[str]) -> list[Path]:
    """Move the files to their place, the weights first; what an older export left of weights goes.

    Until the manifest is written, a claim tells whose they are.
    """
    write_claim(target, files_of(*(folder / name for name in names)))
    for name in reversed(names):
        os.replace(folder / name, target.parent / name)
    if data_path(target).name not in names and (old := _own_files(target)) and data_path(target).name in old:
        data_path(target).unlink(missing_ok=True)
    return [target.parent / name for name in names]


def _own_files(target: Path) -> dict[str, str]:
    manifest = read_manifest(target) if manifest_path(target).exists() else None
    return manifest.files if manifest else {}


def check_data_file(target: Path, *, force: bool) -> None:
    """Raise :class:`BadInput` where weights that are not ours lie beside ``target``."""
    beside = data_path(target)
    own = _own_files(target)
    if beside.exists() and not force and beside.name not in own and not is_claimed(target, own):
        raise BadInput(f"{beside} exists and was not made by deploykit", fix="Choose another -o, or pass --force.")
