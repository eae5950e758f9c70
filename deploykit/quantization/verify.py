"""An int8 file judged by OpenVINO itself: its answers, what runs on integers, and its speed over the float file there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit.base.errors import Unavailable
from deploykit.base.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from deploykit.base.runner import Runner


def judged_there(
    right: Runner,
    name: str,
    plain: Path,
    candidate: Path,
    images: Sequence[np.ndarray],
    x: np.ndarray,
    progress: Progress,
    *,
    threads: int,
    size: int | None,
) -> dict[str, Any] | None:
    """Parity, audit and speed-up on OpenVINO; None where it is not installed, which is said.

    Args:
        right: what the candidate should answer.
        name: of it.
        plain: the float file, which the speed-up is over.
        candidate: the int8 file.
        images: to compare on.
        x: prepared pictures, the first of which is timed.
        progress: where it shows.
        threads: of both.
        size: of pictures, where the files do not carry it.
    """
    from deploykit.base.spec import Spec
    from deploykit.engines import open_runner
    from deploykit.engines.batching import one_batch
    from deploykit.evaluation.compare_runners import BATCHES, parity_of
    from deploykit.latency.interleave import interleaved_s
    from deploykit.quantization.lint.explain_audit import audited

    def opened(path: Path) -> Any:
        return open_runner(Spec(path.stem, path, "openvino"), threads=threads, size=size)

    try:
        runner = opened(candidate)
    except Unavailable as error:
        progress.warn(f"not measured on OpenVINO: {error.line()}")
        return None
    with runner, opened(plain) as reference:
        parity = parity_of(right, runner, images, BATCHES, "int8", progress, name=name)
        times = interleaved_s({"float": reference, "int8": runner}, one_batch(reference, x), rounds=30)
        audit = audited(runner)
    speedup = round(times["float"] / times["int8"], 3)
    return {"parity": parity.to_dict(), "audit": audit, "measured": True, "speedup": speedup}
