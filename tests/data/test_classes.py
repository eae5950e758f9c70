from __future__ import annotations

import pytest

from deploykit.base.errors import BadInput
from deploykit.data import map_classes
from deploykit.data.classes import imagenet_classes


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


def test_imagenets_ids_are_the_classes_of_its_networks() -> None:
    torchvision = pytest.importorskip("torchvision")
    names = tuple(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
    ids = tuple(imagenet_classes())
    assert (len(ids), ids[0], ids[-1]) == (1000, "n01440764", "n15075141")
    assert ids == tuple(sorted(ids))
    assert tuple(imagenet_classes().values()) == names
    assert map_classes(names, ids) == (None, "")
    some = (ids[517], ids[134], ids[2])  # two of them are called crane
    index, said = map_classes(names, some)
    assert index is not None
    assert index.tolist() == [517, 134, 2]
    assert "by name: 3 of the data onto 1000" in said
    with pytest.raises(BadInput, match=r"are unknown to the model .*'n00000000'"):
        map_classes(names, (ids[0], "n00000000"))
