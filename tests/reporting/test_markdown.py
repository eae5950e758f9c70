from __future__ import annotations

import re

import pytest

from deploykit.reporting.markdown import code, escaped, to_markdown
from deploykit.reporting.read import validate
from tests.reporting import sample


def page(report: dict[str, object]) -> str:
    return to_markdown(validate(report))


def test_the_sentence_comes_first_then_the_table() -> None:
    lines = page(sample.report()).splitlines()
    assert lines[0] == "## quickstart on digits"
    assert lines[2] == "**int8 is 2.41× the speed of fp32 and costs 0.22 pt of top-1.**"
    assert next(line for line in lines if line.startswith("| ")).startswith("| Variant | Target | Latency p50 |")
    assert "| **int8** ✅ | ort-cpu | 0.407 ms<br><sub>0.402 … 0.412</sub> |" in page(sample.report())


def test_details_are_folded_and_closed() -> None:
    text = page(sample.report())
    assert text.count("<details>") == text.count("</details>") == 4
    assert text.index("<details>") > text.index("| pruned50 |")
    assert "<code>deploykit export --config stages/int8.export.yaml</code>" in text


@pytest.mark.parametrize("count", [1, 2, 15])
def test_every_table_row_has_as_many_cells_as_its_head(count: int) -> None:
    for made in (sample.report(count), sample.hostile(count), sample.all_failed()):
        cells = 0
        for line in page(made).splitlines():
            if not line.startswith("|"):
                cells = 0
                continue
            found = len(re.findall(r"(?<!\\)\|", line))
            assert found == (cells or found), line
            cells = found


def test_hostile_names_are_only_text() -> None:
    text = page(sample.hostile())
    assert "<script" not in text
    assert set(re.findall(r"</?([a-z]+)[ >]", text)) <= {"details", "summary", "br", "sub", "code"}
    assert "@all" not in text
    assert "](javascript" not in text.replace("\\](", "")


def test_cells_are_escaped() -> None:
    assert escaped("a|b\nc <i> `x` *y* @me") == r"a\|b c &lt;i&gt; \`x\` \*y\* &#64;me"
    assert code("a|b`<") == "<code>a&#124;b&#96;&lt;</code>"


def test_failures_are_listed_with_their_reason() -> None:
    text = page(sample.all_failed())
    assert "**Every variant failed.**" in text
    assert "- **eager** failed: SNR 12.1 dB, expected at least 80 dB; worst image 17" in text


def test_without_timing_the_columns_of_timing_are_gone() -> None:
    made = sample.report(2)
    for variant in made["variants"]:
        variant["measurements"], variant["speedup"] = [], None
    made["pick"], made["pareto"] = None, []
    text = page(made)
    assert "Latency" not in text.split("<details>")[0]
    assert "is the most accurate of 2 variants: top-1 98.89 %" in text
