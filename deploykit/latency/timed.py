"""What a benchmark's worker process opens and times: one artifact with its pictures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from deploykit.latency.subject import split_name

if TYPE_CHECKING:
    import numpy as np

    from deploykit.base.preprocessing import Preprocessing
    from deploykit.base.runner import Runner
    from deploykit.base.targets import Spec


class TimedRunner:
    """One artifact on its target; see :class:`deploykit.latency.subject.Subject`.

    ``compute`` runs input that already lies in the engine's memory and leaves the answer there. ``end_to_end`` starts
    from decoded uint8 pictures: preprocessing, the copies in and out, and the run.
    """

    def __init__(
        self, spec: Spec, images: list[np.ndarray], preprocessing: Preprocessing, options: dict[str, Any]
    ) -> None:
        from importlib import import_module

        from deploykit.engines import BUILT

        assert spec.target is not None
        import_module(BUILT[spec.target])  # libraries are imported before the cold start is timed
        self.spec, self.images, self.preprocessing, self.options = spec, images, preprocessing, options
        self._runner: Runner | None = None

    def load(self) -> None:
        """Open the engine."""
        from deploykit.engines import open_runner

        self._runner = open_runner(self.spec, **self.options)

    @property
    def runner(self) -> Any:
        """The open engine."""
        assert self._runner is not None
        return self._runner

    def facts(self) -> Mapping[str, Any]:
        """The device it computes on, and the only batch it takes."""
        return {"device": self.runner.device, "fixed_batch": self.runner.inputs[0].fixed_batch}

    def _run(self) -> np.ndarray:
        from deploykit.data import prepare

        return self.runner(prepare(self.images, self.preprocessing))

    def answer(self) -> np.ndarray:
        """The first output for the timed pictures."""
        return self._run()

    def call(self, name: str) -> Callable[[], object]:
        """The call ``compute`` or ``end_to_end``; ``compute/8`` for eight pictures, in as many runs as the engine needs."""
        timed, count = split_name(name)
        if timed == "end_to_end":
            return self._run
        x, runs = self._input(count)
        once: Callable[[], object] = self.runner.prebound(x)
        if runs == 1:
            return once

        def several() -> None:
            for _ in range(runs):
                once()

        return several

    def device_call(self, name: str) -> Callable[[], float] | None:
        """``compute`` timed by the device, where the engine can (:class:`deploykit.base.runner.DeviceTimed`)."""
        from deploykit.base.runner import DeviceTimed

        timed, count = split_name(name)
        if timed == "end_to_end" or not isinstance(self.runner, DeviceTimed):
            return None
        x, runs = self._input(count)
        return None if runs > 1 else self.runner.prebound_on_device(x)

    def _input(self, count: int | None) -> tuple[np.ndarray, int]:
        """The prepared pictures of one run, repeated to fill it, and how many runs ``count`` pictures take."""
        from deploykit.data import prepare

        count = count or len(self.images)
        size = self.runner.inputs[0].fixed_batch or count
        images = list(itertools.islice(itertools.cycle(self.images), size))
        return prepare(images, self.preprocessing), -(-count // size)

    def close(self) -> None:
        """Close the engine."""
        if self._runner is not None:
            self._runner.close()


def open_timed(
    spec: Spec, images: list[np.ndarray], preprocessing: Preprocessing, options: dict[str, Any]
) -> TimedRunner:
    """The function that a worker calls by name.

    Args:
        spec: with its target.
        images: uint8 ``[H, W, 3]``, one batch.
        preprocessing: of the engine.
        options: keyword arguments of ``open_runner``.
    """
    return TimedRunner(spec, images, preprocessing, options)
