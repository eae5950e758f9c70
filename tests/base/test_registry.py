"""A table of one of many: duplicates, look-ups, and what its lines promise."""

from __future__ import annotations

import pytest

from deploykit.base.errors import BadInput
from deploykit.base.registry import Entry, Registry


def test_a_name_stands_once() -> None:
    with pytest.raises(ValueError, match="'a' stands twice: m:one and m:two"):
        Registry("thing", Entry("a", "m:one", ""), Entry("b", "m:x", ""), Entry("a", "m:two", ""))


def test_a_failed_look_up_lists_what_is_known_with_the_nearest() -> None:
    table = Registry("thing", Entry("minmax", "m:one", ""), Entry("moving", "m:two", ""))
    with pytest.raises(BadInput) as caught:
        table.load("minmx")
    assert (caught.value.expected, caught.value.fix) == ("one of minmax, moving", "Did you mean 'minmax'?")
    assert "thing 'minmx'" in caught.value.what
    assert table.get("minmx") is None
    assert "minmx" not in table


def test_the_code_is_imported_when_it_is_used() -> None:
    table = Registry("thing", Entry("dumps", "json:dumps", ""), Entry("missing", "nowhere.at.all:f", ""))
    assert table.load("dumps")([1]) == "[1]"
    assert list(table) == ["dumps", "missing"]
    with pytest.raises(ModuleNotFoundError):
        table.load("missing")
