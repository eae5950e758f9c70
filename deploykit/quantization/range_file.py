"""What a calibration saw, kept in a file, so that an interrupted one goes on and a later quantization needs none.

The file knows whose statistics it holds: the hash of the graph, and, since a re-export of the same network is another
file, the extremes of every activation on a fixed input. Names, shapes and extremes together are the network: ranges of
other weights, which have the same names and shapes, are refused.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from deploykit.base.atomic import write_text
from deploykit.base.errors import BadInput, from_os_error
from deploykit.quantization.observers import BINS, Observer

SCHEMA = "deploykit.ranges/1"
NEAR = 1e-2
LARGEST_BYTES = 1 << 30


@dataclass(frozen=True)
class Origin:
    """Whose statistics: two calibrations with equal origins see the same numbers.

    ``graph_sha256``: of the prepared float graph. ``probe``: activation name → minimum and maximum on a fixed input.
    ``data``: name and sha256 of the pictures. ``preprocessing``: as ``Preprocessing.to_dict``. ``settings``: number of
    images and batch.
    """

    graph_sha256: str
    probe: Mapping[str, tuple[float, float]]
    data: Mapping[str, str]
    preprocessing: Mapping[str, Any]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Ranges:
    """The content of a range file.

    ``origin``: whose. ``done``: images seen. ``complete``: whether these are all. ``seen``: activation name → observer.
    """

    origin: Origin
    done: int = 0
    complete: bool = False
    seen: Mapping[str, Observer] = field(default_factory=dict)


def graph_sha256(proto: onnx.ModelProto) -> str:
    """The hash of a graph's nodes and weights, without names of tools, documentation and metadata."""
    graph = onnx.GraphProto()
    graph.CopyFrom(proto.graph)
    for node in graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    graph.ClearField("value_info")
    graph.ClearField("metadata_props")
    return hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest()


def write_ranges(path: Path, ranges: Ranges) -> None:
    """Write the file whole or not at all.

    Raises:
        BadInput: the folder does not exist or may not be written.
    """
    origin = ranges.origin
    fields = {
        "schema": SCHEMA,
        "graph_sha256": origin.graph_sha256,
        "data": dict(origin.data),
        "preprocessing": dict(origin.preprocessing),
        "settings": dict(origin.settings),
        "done": ranges.done,
        "complete": ranges.complete,
        "probe": {name: list(pair) for name, pair in origin.probe.items()},
        "tensors": {name: one.to_dict() for name, one in ranges.seen.items()},
    }
    write_text(path, json.dumps(fields, allow_nan=False) + "\n")


def read_ranges(path: Path) -> Ranges:
    """Read and check a range file; only plain numbers and texts are taken from it.

    Raises:
        BadInput: it is missing, no range file, or damaged.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise BadInput(f"{path} is no range file", got=f"{path.stat().st_size} bytes")
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise from_os_error(error, f"cannot read {path}") from error
    except ValueError as error:
        raise BadInput(f"{path} is no range file: {error}", fix="Name another with --ranges, or delete it.") from error
    if not isinstance(fields, dict) or fields.get("schema") != SCHEMA:
        got = fields.get("schema") if isinstance(fields, dict) else type(fields).__name__
        raise BadInput(f"{path} is no range file", got=got, expected=SCHEMA)
    try:
        origin = Origin(
            str(fields["graph_sha256"]),
            {str(name): (float(low), float(high)) for name, (low, high) in fields["probe"].items()},
            {str(key): str(value) for key, value in fields["data"].items()},
            dict(fields["preprocessing"]),
            dict(fields["settings"]),
        )
        seen = {str(name): _observer(one) for name, one in fields["tensors"].items()}
        return Ranges(origin, int(fields["done"]), bool(fields["complete"]), seen)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        what = f"{path} is a damaged range file: {type(error).__name__} {error}"
        raise BadInput(what, fix="Delete it and calibrate again.") from error


def _observer(fields: Mapping[str, Any]) -> Observer:
    numbers = [float(fields[key]) for key in ("low", "high", "moving_low", "moving_high", "limit")]
    bins, counts = [int(one) for one in fields["bins"]], [int(one) for one in fields["counts"]]
    if not all(math.isfinite(one) for one in numbers) or numbers[0] > numbers[1]:
        raise ValueError("a range that is none")
    if len(bins) != len(counts) or min(counts, default=0) < 0 or not all(0 <= one < BINS for one in bins):
        raise ValueError("a histogram that is none")
    return Observer.from_dict(fields)


def check_origin(ranges: Ranges, wanted: Origin, path: Path) -> None:
    """Refuse statistics of something else.

    Raises:
        BadInput: of another network, other pictures, preprocessing or settings.
    """
    found = ranges.origin
    _check_network(found, wanted, path)
    for what, got, expected in (
        ("pictures", found.data, wanted.data),
        ("preprocessing", found.preprocessing, wanted.preprocessing),
        ("settings", found.settings, wanted.settings),
    ):
        if json.dumps(got, sort_keys=True) != json.dumps(expected, sort_keys=True):
            differing = {key: value for key, value in got.items() if expected.get(key) != value} or dict(got)
            right = {key: expected.get(key) for key in differing}
            raise BadInput(
                f"{path} holds the ranges of other {what}",
                got=_shown(differing),
                expected=_shown(right),
                fix="Name another file with --ranges, or delete it.",
            )


def _check_network(found: Origin, wanted: Origin, path: Path) -> None:
    fix = "Name another file with --ranges, or delete it."
    missing = [name for name in wanted.probe if name not in found.probe]
    if missing:
        raise BadInput(
            f"{path} holds the ranges of another network: {len(missing)} activations are not in it",
            got=f"graph {found.graph_sha256[:12]}",
            expected=f"graph {wanted.graph_sha256[:12]} with {missing[0]!r}",
            fix=fix,
        )
    for name, (low, high) in wanted.probe.items():
        one = found.probe[name]
        room = NEAR * max(abs(low), abs(high), 1e-6)
        if abs(one[0] - low) > room or abs(one[1] - high) > room:
            raise BadInput(
                f"{path} holds the ranges of another network: the same names but other weights, as {name!r} shows",
                got=f"{one[0]:.4g}…{one[1]:.4g} on the same input",
                expected=f"{low:.4g}…{high:.4g}",
                fix=fix,
            )


def _shown(fields: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value[:12] if isinstance(value, str) and len(value) == 64 else value}" for key, value in fields.items()
    )
