"""Which of several plans is the fastest on the GPU at hand, measured in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from deploykit.base.runner import Ranged
from deploykit.base.spec import Spec
from deploykit.latency.interleave import interleaved_s

if TYPE_CHECKING:
    from deploykit.config.build import BuildConfig

ROUNDS = 50


def fastest(plans: Sequence[bytes], target: Path, config: BuildConfig) -> tuple[int, list[float]]:
    """Index of the fastest plan, and the milliseconds a call of each.

    ``plans``: of one network. ``target``: the file that one of them will become, for its name.
    """
    with TemporaryDirectory(prefix="deploykit-") as folder:
        files = {}
        for number, content in enumerate(plans):
            place = Path(folder) / f"{target.stem}.{number}.engine"
            place.write_bytes(content)
            files[str(number)] = place
        times = race(files, config)
    milliseconds = [times[str(number)] for number in range(len(plans))]
    return milliseconds.index(min(milliseconds)), [round(one, 4) for one in milliseconds]


def race(files: Mapping[str, Path], config: BuildConfig) -> dict[str, float]:
    """Milliseconds a call of each plan, compute only, at the batch that the first one's first profile serves best.

    Raises:
        Unavailable: there is no GPU to time them on.
    """
    from deploykit.engines import open_runner
    from deploykit.engines.random_input import random_input

    with ExitStack() as stack:
        runners = {}
        for name, path in files.items():
            # built here and now: a lean runtime inside is the library's own
            spec = Spec(name, path, config.target, {"device": str(config.device)})
            runners[name] = stack.enter_context(open_runner(spec, stated=config.stated, allow_code=True))
        first = next(iter(runners.values()))
        assert isinstance(first, Ranged)
        x = random_input(first.inputs, first.best_shapes(), config.seed)
        return {name: 1e3 * one for name, one in interleaved_s(runners, x, rounds=ROUNDS, seed=config.seed).items()}
