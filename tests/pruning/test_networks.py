"""Every network of the table, made anew."""

import pytest

from tests.pruning.networks_table import MACS, PAGE, in_words, names, read_rows, row_of

EXACT = 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_network(name):
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    row = row_of(name)
    if not row["pruned"]:
        assert row["transformer"], row["reason"]  # every CNN is pruned
        return
    assert row["error"] < EXACT
    assert row["moved"] > EXACT  # the removed channels said something
    assert row["macs"] <= MACS
    assert row["reloads"]
    assert row["trains"]


def test_the_page_tells_the_measured_networks():
    assert in_words(list(read_rows().values())) in PAGE.read_text(encoding="utf-8")
