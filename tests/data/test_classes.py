from __future__ import annotations

import pytest

from deploykit.base.errors import BadInput
from deploykit.data import map_classes


def test_equal_names_need_no_map() -> None:
    assert map_classes(["cat", "dog"], ["cat", "dog"]) == (None, "")


def test_by_name() -> None:
    index, message = map_classes(["ant", "cat", "dog"], ["dog", "ant"])
    assert index is not None
    assert index.tolist() == [2, 0]
    assert message == "classes mapped by name: 2 of the data onto 3 of the model"


@pytest.mark.parametrize("model", [None, ["0", "1"]])
def test_by_index_without_names(model) -> None:
    index, message = map_classes(model, ["cat", "dog"])
    assert index is None
    assert message.startswith("classes mapped by index")


def test_names_that_differ() -> None:
    with pytest.raises(BadInput, match="do not fit: 1 of the data's are unknown to the model \\('cow'\\)"):
        map_classes(["cat", "dog"], ["cat", "cow"])


def test_counts_that_differ() -> None:
    with pytest.raises(BadInput, match="got 2 classes in the model, 3 in the data"):
        map_classes(["0", "1"], ["a", "b", "c"])
