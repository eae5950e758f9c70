"""Networks and single convolutions on the targets whose engines tell the time of each of their layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit.base.errors import AnswerNo
from deploykit.base.targets import PLANS, Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from deploykit.base.runner import Runner
    from deploykit.config.build import BuildConfig

    BuildPlan = Callable[[Path, BuildConfig], Path]


def need_target(target: str) -> None:
    """Refuse a target that nothing can be timed on here, before anything is made for it.

    Raises:
        Unavailable: this machine lacks its library or its GPU.
    """
    from deploykit.engines.lacking import lacking

    if (why := lacking(target)) is not None:
        raise why
    if target in PLANS:
        from deploykit.engines.tensorrt.hardware import gpu

        gpu()  # TensorRT-RTX builds without one, and runs on none


def open_on(path: Path, target: str, threads: int, build: BuildPlan | None) -> Runner:
    """A runner of an fp32 ``.onnx`` on ``target``.

    Args:
        path: of the file.
        target: that runs it.
        threads: of a target on the CPU.
        build: builds TensorRT's plan of a file for the GPU at hand and returns where it lies; only for such targets.

    Raises:
        AnswerNo: the builder failed.
        Unavailable: this machine lacks the target.
    """
    from deploykit.engines import open_runner

    if target not in PLANS:
        return open_runner(Spec(path.stem, path, target), threads=threads)
    from deploykit.config.build import BuildConfig

    config = BuildConfig(target=target, precision="fp32", batch=1, beside="none")
    assert build is not None, f"{target} runs plans only"
    return open_runner(Spec(path.stem, build(path, config), target))


def layer_ms(path: Path, target: str, threads: int, nodes: Collection[str], build: BuildPlan | None) -> float:
    """Milliseconds that an engine of ``path`` spends in the layers made of ``nodes``, by its own profile.

    Layers that only change the layout are left out: inside a network a layer reads what the one before it wrote.

    Raises:
        AnswerNo: the engine tells no times.
        Unavailable: this machine lacks the target.
    """
    import numpy as np

    with open_on(path, target, threads, build) as runner:
        wanted = runner.inputs[0]
        x = np.random.default_rng(0).standard_normal([int(dim) for dim in wanted.shape], dtype=np.float32)
        told: Any = runner
        return time_of(told.timed_layers(x), nodes) / 1e3


def time_of(rows: Sequence[Mapping[str, Any]], nodes: Collection[str]) -> float:
    """Microseconds of the layers that name one of ``nodes``; of all where none does (some engines rename what they fuse).

    Raises:
        AnswerNo: there are no layers.
    """
    if not rows:
        raise AnswerNo("the engine tells no times of its layers")
    own = [row for row in rows if not set(nodes).isdisjoint(row["nodes"])]
    return sum(float(row["time_us"]) for row in own or rows)
