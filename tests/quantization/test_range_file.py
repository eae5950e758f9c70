import json
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from deploykit.base.errors import BadInput
from deploykit.quantization.observers import Observer
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.range_file import (
    NEAR,
    Origin,
    Ranges,
    check_origin,
    graph_sha256,
    read_ranges,
    write_ranges,
)
from tests.quantization.graphs_for_tests import residual_net

ORIGIN = Origin(
    "a" * 64, {"x": (-1.0, 2.0)}, {"name": "digits", "sha256": "d" * 64}, {"size": [16, 16]}, {"images": 8, "batch": 4}
)


def observer():
    one = Observer("x")
    one.add(np.random.default_rng(0).normal(size=300).astype(np.float32))
    return one


@pytest.fixture
def path(tmp_path):
    write_ranges(tmp_path / "net.ranges.json", Ranges(ORIGIN, 8, True, {"x": observer()}))
    return tmp_path / "net.ranges.json"


def test_round_trip(path):
    found = read_ranges(path)
    assert (found.done, found.complete) == (8, True)
    assert found.seen["x"].to_dict() == observer().to_dict()
    check_origin(found, ORIGIN, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"probe": {"x": (-1.0, 2.6)}},
            r"another network: the same names but other weights.*'x'.*got -1…2 .*expected -1…2.6",
        ),
        ({"probe": {"y": (0.0, 1.0)}}, r"another network: 1 activations are not in it; got graph aaaaaaaaaaaa.*'y'"),
        ({"data": {"name": "digits", "sha256": "e" * 64}}, r"other pictures; got sha256 d{12}; expected sha256 e{12}"),
        ({"preprocessing": {"size": [32, 32]}}, r"other preprocessing; got size \[16, 16\]; expected size \[32, 32\]"),
        ({"settings": {"images": 64, "batch": 4}}, r"other settings; got images 8; expected images 64"),
    ],
)
def test_another_origin_is_refused(path, change, message):
    with pytest.raises(BadInput, match=message):
        check_origin(read_ranges(path), replace(ORIGIN, **change), path)


def test_a_re_export_of_the_same_network_is_accepted(path):
    again = replace(ORIGIN, graph_sha256="b" * 64, probe={"x": (-1.0000002, 1.9999998)})
    assert read_ranges(path).origin != again
    check_origin(read_ranges(path), again, path)
    room = NEAR * 2.0  # of the larger end: what two versions of a library may differ by
    check_origin(read_ranges(path), replace(again, probe={"x": (-1.0, 2.0 - 0.9 * room)}), path)
    with pytest.raises(BadInput, match="the same names but other weights"):
        check_origin(read_ranges(path), replace(again, probe={"x": (-1.0, 2.0 - 1.1 * room)}), path)


def test_the_graph_hash_is_of_the_function_not_of_names_of_tools():
    first, second = ir.to_proto(prepare(residual_net())), ir.to_proto(prepare(residual_net()))
    second.producer_name = "another"
    second.metadata_props.add(key="k", value="v")
    second.graph.node[0].doc_string = "about"
    assert graph_sha256(first) == graph_sha256(second)
    assert graph_sha256(first) != graph_sha256(ir.to_proto(prepare(residual_net(seed=1))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "other/1"}, r"no range file; got other/1; expected deploykit.ranges/1"),
        ({"tensors": {"x": {"low": 1}}}, r"a damaged range file: KeyError"),
        ({"done": "many"}, r"a damaged range file: ValueError"),
    ],
)
def test_a_damaged_file_is_named(path, change, message):
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | change))
    with pytest.raises(BadInput, match=message):
        read_ranges(path)


@pytest.mark.parametrize(
    "change",
    [{"bins": [99999999], "counts": [1]}, {"bins": [1, 2], "counts": [1]}, {"counts": [-1], "bins": [1]}, {"low": 9e9}],
)
def test_an_impossible_histogram_is_refused(path, change):
    fields = json.loads(path.read_text())
    fields["tensors"]["x"] |= change
    path.write_text(json.dumps(fields))
    with pytest.raises(BadInput, match="damaged range file"):
        read_ranges(path)


def test_no_json_is_refused(tmp_path):
    (tmp_path / "r.json").write_text("{")
    with pytest.raises(BadInput, match=r"r\.json is no range file"):
        read_ranges(tmp_path / "r.json")
