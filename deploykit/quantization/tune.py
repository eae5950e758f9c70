"""``quantize --tune``: measured time corrects what the kernels' predicted cost chose, and a choices file keeps the outcome.

Candidates run in turns on this machine. One takes the predicted choice's place only where the whole interval of its speed-up
over that choice lies above 1, and it is not further from float. ``--choices FILE`` makes the same choice again without measuring.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploykit.base.artifact import Manifest
from deploykit.base.choices import Choices, choices_path, read_choices, write_choices
from deploykit.base.environment import cpu
from deploykit.base.errors import BadInput
from deploykit.quantization.job import Job, Seen
from deploykit.quantization.search import LEAST_GAIN_DB, Choice, cuts
from deploykit.stats.ratio import speed_up, speed_up_interval

STAGE = "quantize"
PLACED = ("prefix", "float_adds", "float_head")
"""What is decided by time; the rest of a choice follows from accuracy."""


def tuned(seen: Seen, predicted: Choice, job: Job) -> tuple[Choice, dict[str, Any]]:
    """The fastest choice by measured time, and what was measured of each: speed-up over ``predicted`` with its interval."""
    quantizer = seen.quantizer
    prefixes = dict.fromkeys((frozenset[str](), *cuts(quantizer.prepared.graph)))
    candidates = {f"the first {len(one)} nodes float": replace(predicted, prefix=one) for one in prefixes}
    candidates |= {
        "float sums": replace(predicted, float_adds=True, float_head=False),
        "float classifier": replace(predicted, float_head=True, float_adds=False),
        "int8 sums and classifier": replace(predicted, float_adds=False, float_head=False),
    }
    distinct = {"as predicted": predicted} | {name: one for name, one in candidates.items() if one != predicted}
    graphs = {name: quantizer.make(choice) for name, choice in distinct.items()}
    times = job.opened.blocks_s(graphs, seen.x, job.config.seed)
    base = times["as predicted"]
    ratios = {name: (speed_up(base, one), *speed_up_interval(base, one)) for name, one in times.items()}
    faster = {name: graphs[name] for name, (_, low, _) in ratios.items() if low > 1}
    near = job.near_db(faster | {"as predicted": graphs["as predicted"]}, seen)
    good = [name for name in faster if near[name] > near["as predicted"] - LEAST_GAIN_DB]
    best = max(good, key=lambda name: ratios[name][0], default="as predicted")
    shown = ", ".join(f"{name} {ratio:.3f} ({low:.3f} … {high:.3f})" for name, (ratio, low, high) in ratios.items())
    job.progress.say(f"tuned: {best} (measured speed-up over the prediction: {shown})")
    return distinct[best], {name: [round(number, 4) for number in ratio] for name, ratio in ratios.items()}


def read_placement(config_choices: str, parent_sha256: str, isa: str) -> tuple[Choices, dict[str, Any]]:
    """The choices file, and the fields of a :class:`Choice` that it decides.

    Raises:
        BadInput: no choices of this model and ISA, or damaged ones.
    """
    found = read_choices(Path(config_choices), STAGE, parent_sha256, isa)
    chosen = dict(found.chosen)
    prefix = chosen.get("prefix")
    named = isinstance(prefix, list) and all(isinstance(name, str) for name in prefix)
    if set(chosen) != set(PLACED) or not named or not all(isinstance(chosen[name], bool) for name in PLACED[1:]):
        raise BadInput(f"{config_choices} holds no placement", got=sorted(chosen), expected=", ".join(PLACED))
    return found, chosen | {"prefix": frozenset(prefix or ())}


def keep_placement(target: Path, manifest: Manifest, choice: Choice, measured: Mapping[str, Any], isa: str) -> None:
    """Write what was measured, and chosen by it, beside the artifact ``target``."""
    chosen = {"prefix": sorted(choice.prefix), "float_adds": choice.float_adds, "float_head": choice.float_head}
    model = manifest.parents[0].sha256
    write_choices(choices_path(target), Choices(STAGE, model, isa, chosen, {"speed_up": measured}, cpu()["model"]))
