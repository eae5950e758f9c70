"""What a benchmark's worker process opens and times: one artifact with its pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from deploykit.base.preprocessing import Preprocessing
    from deploykit.base.runner import Runner
    from deploykit.base.targets import Spec


class TimedRunner:
    """One artifact on its target; see :class:`deploykit.benchmarking.subject.Subject`.

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

    def _run(self) -> np.ndarray:
        from deploykit.data import prepare

        assert self._runner is not None
        return self._runner(prepare(self.images, self.preprocessing))

    def answer(self) -> np.ndarray:
        """The first output for the timed pictures."""
        return self._run()

    def calls(self) -> Mapping[str, Callable[[], object]]:
        """``compute`` and ``end_to_end``."""
        from deploykit.data import prepare

        runner: Any = self._runner
        return {"compute": runner.prebound(prepare(self.images, self.preprocessing)), "end_to_end": self._run}

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
