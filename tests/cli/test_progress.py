"""The plain lines of progress, where stderr is no terminal."""

from __future__ import annotations

import pytest

from deploykit.cli.progress import _PlainTask


@pytest.mark.parametrize(
    ("title", "total", "unit", "done", "line"),
    [
        ("train", 100, "images", 50, "train  50/100 images  5.0 images/s  10 s left  loss 0.5"),
        ("train", 100, "images", 100, "train  100/100 images  10.0 images/s  loss 0.5"),
        ("measure", 6, "s", 6.04, "measure  6/6 s  loss 0.5"),
        ("export", None, "", 0, "export  10 s  loss 0.5"),
        ("read", None, "pictures", 20, "read  20 pictures  2.0 pictures/s  loss 0.5"),
    ],
)
def test_a_line_tells_what_is_known(
    title: str, total: float | None, unit: str, done: float, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    task = _PlainTask(title, total, unit)
    task.done, task.fields = done, {"loss": 0.5}
    task.line(task.start + 10)
    assert capsys.readouterr().err == line + "\n"
