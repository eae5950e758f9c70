"""Every line of every registry leads to code, and the table itself imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from deploykit.base.registry import Registry
from deploykit.config import registries

TABLES = {name: one for name, one in vars(registries).items() if isinstance(one, Registry)}


@pytest.mark.parametrize(("table", "name"), [(table, name) for table, found in TABLES.items() for name in found])
def test_every_line_leads_to_code(table: str, name: str) -> None:
    entry = TABLES[table][name]
    assert callable(TABLES[table].load(name))
    assert entry.help
    assert not entry.help.endswith(".")


def test_no_two_names_lead_to_the_same_code() -> None:
    places = [entry.place for table in TABLES.values() for entry in table.values()]
    assert len(places) == len(set(places))


def test_the_tables_are_light() -> None:
    code = "import sys, deploykit.config.registries; print(*sorted({one.split('.')[0] for one in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "pydantic", "onnx", "PIL", "yaml"} & set(loaded)
