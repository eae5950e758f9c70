import numpy as np
import pytest
import torch

from deploykit.base.errors import BadInput
from deploykit.quantization.qat.record import Record, read_record, weights_sha256

TENSORS = {"a.weight": torch.ones(2, 3), "a.count": torch.tensor(3)}


@pytest.fixture
def record():
    return Record(
        "ort-cpu",
        8,
        {"a/Conv": (-1.0, 2.0)},
        {"a/Conv": np.asarray([0.5, 0.25], np.float32)},
        prefix=frozenset({"b/Conv"}),
        float_head=True,
        weights_sha256=weights_sha256(TENSORS),
    )


def test_it_is_read_as_it_was_written(record):
    again = read_record(record.to_dict(), TENSORS, "m.pt")
    assert again.to_dict() == record.to_dict()
    assert again.ranges == {"a/Conv": (-1.0, 2.0)}
    assert again.limits["a/Conv"].dtype == np.float32
    assert again.prefix == {"b/Conv"}


def test_changed_weights_are_refused(record):
    changed = {**TENSORS, "a.weight": TENSORS["a.weight"] * 1.0001}
    with pytest.raises(BadInput, match=r"m\.pt holds ranges of other weights: .*changed after training.*--method qat"):
        read_record(record.to_dict(), changed, "m.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "deploykit.qat/9"}, r"another format; got deploykit\.qat/9"),
        ({"ranges": {"a": [1.0]}}, r"damaged ranges: ValueError"),
        ({"ranges": {"a": [float("nan"), 1.0]}}, r"a range that is none"),
        ({"ranges": {"a": [2.0, 1.0]}}, r"a range that is none"),
        ({"limits": {"a": [0.0]}}, r"a weight limit that is none"),
        ({"bits": "many"}, r"damaged ranges: ValueError"),
    ],
)
def test_damage_is_one_line(record, change, message):
    with pytest.raises(BadInput, match=message):
        read_record({**record.to_dict(), **change}, TENSORS, "m.pt")


def test_a_missing_field_is_named(record):
    fields = record.to_dict()
    del fields["target"]
    with pytest.raises(BadInput, match=r"damaged ranges: KeyError 'target'"):
        read_record(fields, TENSORS, "m.pt")
