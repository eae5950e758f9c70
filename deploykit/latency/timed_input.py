"""What a variant is timed with: decoded images, or random numbers of the shapes that its graph declares."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from deploykit.base.preprocessing import Preprocessing
    from deploykit.base.runner import Feed, Runner
    from deploykit.engines.random_input import Shapes


@dataclass(frozen=True)
class ImageInput:
    """Images, uint8 ``[H, W, C]``, one batch; end to end starts from them."""

    images: list[np.ndarray]
    preprocessing: Preprocessing

    def fixed_batch(self, runner: Runner) -> int | None:
        """The only number of images that one run takes, or None."""
        return runner.inputs[0].fixed_batch

    def of(self, runner: Runner, count: int | None) -> tuple[Feed, int]:
        """The input of one run, prepared and repeated to fill it, and how many runs ``count`` images take."""
        from deploykit.data import prepare

        count = count or len(self.images)
        size = self.fixed_batch(runner) or count
        images = list(itertools.islice(itertools.cycle(self.images), size))
        return prepare(images, self.preprocessing), -(-count // size)

    def end_to_end(self, runner: Runner) -> Callable[[], np.ndarray]:
        """Preprocessing, the copies in and out, and the run."""
        from deploykit.data import prepare

        return lambda: runner(prepare(self.images, self.preprocessing))


@dataclass(frozen=True)
class RandomInput:
    """Seeded random numbers; ``shapes`` as the user named them, ``batch`` for first dimensions that are free."""

    shapes: Shapes
    batch: int
    seed: int

    def fixed_batch(self, runner: Runner) -> int | None:
        """The only number of rows that one run takes; None where a free first dimension is not named."""
        from deploykit.engines.random_input import input_shapes, rows_of

        one, more = (rows_of(input_shapes(runner, self.shapes, rows)) for rows in (1, 2))
        return one if one == more else None

    def of(self, runner: Runner, count: int | None) -> tuple[Feed, int]:
        """The input of one run, and how many runs ``count`` rows take."""
        from deploykit.engines.random_input import input_shapes, random_input, rows_of

        shapes = input_shapes(runner, self.shapes, count or self.batch)
        return random_input(runner.inputs, shapes, self.seed), -(-count // rows_of(shapes)) if count else 1

    def end_to_end(self, runner: Runner) -> Callable[[], np.ndarray]:
        """The copies in and out, and the run; its answer is every number of every output, of all that are not empty."""
        feed, _ = self.of(runner, None)

        def run() -> np.ndarray:
            parts = [out.ravel() for out in runner.run_all(feed).values() if out.size]
            return np.concatenate(parts) if parts else np.zeros(1)

        return run


TimedInput = ImageInput | RandomInput
