from __future__ import annotations

import numpy as np
import pytest

from deploykit.base.errors import BadInput
from deploykit.training.batches import Batches


def test_every_picture_once_and_no_small_batch(splits, preprocessing) -> None:
    train = splits["train"]
    batches = list(Batches(train, preprocessing, 50)(0))
    assert sorted(np.concatenate([b.indices for b in batches])) == list(range(len(train)))
    sizes = [len(b.indices) for b in batches]
    assert max(sizes) <= 50
    assert max(sizes) - min(sizes) <= 1
    assert all(b.images.shape[1:] == (16, 16, 3) and b.images.dtype == np.uint8 for b in batches)
    assert all(np.array_equal(b.labels, train.labels[b.indices]) for b in batches)


def test_epochs_differ_and_start_goes_on_in_the_same_order(splits, preprocessing) -> None:
    batches = Batches(splits["train"], preprocessing, 32, seed=3, crop=0.5)
    first = list(batches(1))
    rest = list(batches(1, start=2))
    assert len(rest) == len(first) - 2
    assert all(np.array_equal(a.images, b.images) for a, b in zip(first[2:], rest, strict=True))
    assert not np.array_equal(next(iter(batches(0))).indices, first[0].indices)


@pytest.mark.parametrize("readers", [1, 3])
def test_processes_share_the_same_global_batches(splits, preprocessing, readers: int) -> None:
    alone = list(Batches(splits["train"], preprocessing, 51, crop=0.5)(0))
    shares = [
        list(Batches(splits["train"], preprocessing, 51, crop=0.5, rank=r, world=2, readers=readers)(0)) for r in (0, 1)
    ]
    for whole, a, b in zip(alone, *shares, strict=True):
        assert sorted(whole.indices) == sorted([*a.indices, *b.indices])
        assert a.share + b.share == pytest.approx(2)
        assert a.share == pytest.approx(2 * len(a.indices) / len(whole.indices))
        position = {index: i for i, index in enumerate(whole.indices)}
        assert all(np.array_equal(whole.images[position[i]], x) for i, x in zip(b.indices, b.images, strict=True))


def test_batch_larger_than_the_split(splits, preprocessing) -> None:
    with pytest.raises(BadInput, match=r"the batch is larger than the train split; got batch 500 and \d+ pictures"):
        Batches(splits["train"], preprocessing, 500)


def test_more_processes_than_pictures_in_a_batch(splits, preprocessing) -> None:
    with pytest.raises(BadInput, match="the batch is smaller than the number of processes; got batch 2, 4 processes"):
        Batches(splits["train"], preprocessing, 2, world=4)
