"""Preprocessing inside the graph, uint8 NHWC → Cast → (x − 255·mean) · 1/(255·std) → NCHW, and ``deploykit.*`` metadata.

It equals (x/255 − mean)/std up to one rounding of float32. Resizing and cropping stay outside.
"""

from __future__ import annotations

import json
from collections.abc import MutableMapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from deploykit._version import __version__
from deploykit.base.artifact import LineageEntry
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.task import Task


def embed_preprocessing(model: ir.Model, preprocessing: Preprocessing) -> None:
    """Put the normalisation in front of the graph, in place; ``input`` becomes uint8 ``[N, H, W, C]``."""
    graph = model.graph
    old = graph.inputs[0]
    assert old.shape is not None
    batch, channels, height, width = old.shape
    name = old.name
    old.name = "preprocessing/Transpose"
    fresh = ir.Value(name=name, shape=ir.Shape([batch, height, width, channels]), type=ir.TensorType(ir.DataType.UINT8))
    shift = _constant(graph, "preprocessing.shift", 255.0 * np.asarray(preprocessing.mean, np.float64))
    scale = _constant(graph, "preprocessing.scale", 1.0 / (255.0 * np.asarray(preprocessing.std, np.float64)))
    cast = ir.node("Cast", [fresh], {"to": int(ir.DataType.FLOAT)}, name="preprocessing/Cast")
    centred = ir.node("Sub", [cast.outputs[0], shift], name="preprocessing/Sub")
    scaled = ir.node("Mul", [centred.outputs[0], scale], name="preprocessing/Mul")
    turned = ir.node("Transpose", [scaled.outputs[0]], {"perm": [0, 3, 1, 2]}, name="preprocessing/Transpose")
    for node in (cast, centred, scaled):
        node.outputs[0].name = node.name
    ir.convenience.replace_all_uses_with(old, turned.outputs[0])
    graph.inputs[0] = fresh
    turned.outputs[0].name = "preprocessing/Transpose"
    turned.outputs[0].shape, turned.outputs[0].type = old.shape, old.type
    first = graph[0]
    graph.insert_before(first, [cast, centred, scaled, turned])


def _constant(graph: ir.Graph, name: str, values: np.ndarray) -> ir.Value:
    array = values.astype(np.float32)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.FLOAT))
    value.const_value = ir.tensor(array, name=name)
    graph.register_initializer(value)
    return value


def write_metadata(
    props: MutableMapping[str, str],
    *,
    preprocessing: Preprocessing,
    classes: tuple[str, ...] | None,
    task: Task,
    precision: str,
    lineage: Sequence[LineageEntry],
) -> None:
    """Set the metadata of a model, in place.

    ``props``: ``metadata_props`` of an onnx_ir model. ``preprocessing``: of the file's input. ``precision``: of the
    float part. ``lineage``: what was done to the model, oldest first.
    """
    props["deploykit.version"] = __version__
    props["deploykit.task"] = task
    props["deploykit.precision"] = precision
    props["deploykit.preprocessing"] = _json(preprocessing.to_dict())
    if classes is not None:
        props["deploykit.classes"] = _json(list(classes))
    props["deploykit.lineage"] = _json(lineage)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
