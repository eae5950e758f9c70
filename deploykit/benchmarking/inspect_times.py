"""The time of each layer of an engine, measured here: what ``deploykit inspect --times`` adds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploykit.base.errors import BadInput
from deploykit.base.targets import Spec
from deploykit.benchmarking.layers import picture_for
from deploykit.exporting.check_onnx import refuse_unsound
from deploykit.quantization.lint.explain_audit import LEFT, audit_and_left


def timed(
    path: Path, target: str | None, threads: int | None, size: int | None, allow_code: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Facts of the engine, and its layers in the order they run with their time and their share of all.

    Args:
        path: of an ``.onnx``, ``.xml`` or a plan.
        target: that runs it; None: the manifest's, or the file's natural one.
        threads: of the CPU; None on a GPU.
        size: input size in pixels where the file does not carry it.
        allow_code: a runtime inside a plan may run.

    Raises:
        BadInput: the target tells no times, or the file is broken.
        Unavailable: this machine lacks the target.
    """
    from deploykit.engines import open_runner

    if path.suffix.lower() == ".onnx":
        refuse_unsound(path, finite=False)
    with open_runner(Spec(path.stem, path, target), threads=threads, size=size, allow_code=allow_code) as runner:
        if not hasattr(runner, "timed_layers"):
            raise BadInput(
                f"{runner.target} tells no times of its layers",
                expected="an .onnx file or an engine",
                fix=f"Export it first: deploykit export {path}.",
            )
        x = picture_for(runner)
        rows = runner.timed_layers(x)
        found, left = audit_and_left(runner)
    total = sum(row["time_us"] for row in rows) or 1.0  # all below the clock's step
    rows = [{**row, "time_us": round(row["time_us"], 2), "share": round(row["time_us"] / total, 4)} for row in rows]
    facts = {
        "timed_on": {"target": runner.target, "batch": x.shape[0], "threads": runner.threads, "layers": len(rows)},
        "layers_us": round(total, 1),
        "engine": found,
        LEFT: left,
    }
    return facts, rows
