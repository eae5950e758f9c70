import numpy as np

from deploykit.data import open_data
from deploykit.training.batches import Batches, Rounds


def test_rounds_are_the_same_batches_cut_elsewhere(digits_npz):
    data = open_data(str(digits_npz))
    whole = Batches(data.split("train"), data.preprocessing(), 32)
    rounds = Rounds(whole, 4)
    assert rounds.per_epoch == 4
    assert rounds.images == round(len(data.split("train")) * 4 / whole.per_epoch)
    expected = [batch.indices for epoch in range(2) for batch in whole(epoch)][:12]
    found = [batch.indices for number in range(3) for batch in rounds(number)]
    assert len(found) == len(expected) == 12
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(next(iter(rounds(1, 2))).indices, expected[6])
    assert len(list(rounds(1, 2))) == 2
