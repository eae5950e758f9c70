"""Widths that measured time chose, as a choices file keeps and replays them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from deploykit.base.choices import Choices, read_choices
from deploykit.base.environment import cpu, gpus, isa
from deploykit.base.errors import BadInput
from deploykit.base.targets import target_of
from deploykit.config.prune import PruneConfig

if TYPE_CHECKING:
    from deploykit.pruning.channel_graph import Graph
    from deploykit.pruning.prune_channels import Plan

STAGE = "prune"
Widths = list[list[Any]]
"""Of one step: [name of a group's first layer, its channels], of each group in the order of running."""


class LatencyChoice(TypedDict):
    """What a file says of a latency budget: what was asked, and the hash of the choices (not their times)."""

    target: str
    threads: int
    asked: float
    choices: str


def kind_of_machine(target: str) -> str:
    """What choices hold for: the CPU's ISA, or the GPU's name."""
    return isa() if target_of(target).on_cpu else " + ".join(str(one["name"]) for one in gpus()) or "no GPU"


def width_choices(
    config: PruneConfig, parent_sha256: str, steps: Sequence[Widths], measured: Mapping[str, Any]
) -> Choices:
    """What was chosen for a file, and what decided it; ``steps``: the widths after each step."""
    chosen = {"target": config.target, "threads": config.threads or 1, "asked": config.latency, "widths": list(steps)}
    kind = kind_of_machine(config.target)
    machine = str(cpu()["model"]) if target_of(config.target).on_cpu else kind
    return Choices(STAGE, parent_sha256, kind, chosen, measured, machine)


def choices_for(config: PruneConfig, parent_sha256: str) -> Choices | None:
    """The choices that ``config`` names; None where it names none.

    Raises:
        BadInput: no choices file, or choices for another file, budget, target or number of steps.
    """
    if config.choices is None:
        return None
    found = read_choices(Path(config.choices), STAGE, parent_sha256, kind_of_machine(config.target))
    wanted = {"target": config.target, "threads": config.threads or 1, "asked": config.latency, "steps": config.steps}
    given = {**found.chosen, "steps": len(found.chosen.get("widths", ()))}
    for name, value in wanted.items():
        if given.get(name) != value:
            fix = "Leave --choices away to measure anew."
            raise BadInput(f"{config.choices}: another {name}", got=given.get(name), expected=value, fix=fix)
    return found


def told_choices(choices: Choices) -> LatencyChoice:
    """What a file says of the choices that made it."""
    chosen = choices.chosen
    return {
        "target": chosen["target"],
        "threads": chosen["threads"],
        "asked": chosen["asked"],
        "choices": choices.sha256,
    }


def told_widths(graph: Graph, widths: np.ndarray) -> Widths:
    """``widths``, int [groups], as a choices file keeps them."""
    return [[group.name, int(width) * group.rows] for group, width in zip(graph.groups, widths, strict=True)]


def replayed_widths(told: Widths, graph: Graph, how: Plan) -> np.ndarray:
    """Widths of a choices file as int [groups].

    Raises:
        BadInput: other layers, or a width that one cannot have.
    """
    found = [[group.name, one.widths[-1] * group.rows] for group, one in zip(graph.groups, how.ladders, strict=True)]
    widths = np.array([int(channels) // group.rows for (_, channels), group in zip(told, graph.groups, strict=False)])
    offered = [width in one.widths for width, one in zip(widths.tolist(), how.ladders, strict=False)]
    if [name for name, _ in told] != [name for name, _ in found] or not all(offered):
        got = ", ".join(f"{name} {channels}" for name, channels in told[:3])
        expected = ", ".join(f"{name} of {channels}" for name, channels in found[:3])
        raise BadInput(
            "the choices are widths of other layers, or those that --keep, --ratio or --round-to exclude",
            got=f"{got} …",
            expected=f"{expected} …",
            fix="Leave --choices away to measure anew.",
        )
    return widths
