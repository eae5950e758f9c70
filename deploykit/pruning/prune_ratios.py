"""What rounding makes of the ratios that were asked for, said before anything is cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deploykit.base.errors import BadInput
from deploykit.base.progress import Progress

if TYPE_CHECKING:
    from deploykit.pruning.graph import Graph
    from deploykit.pruning.plan import Plan


def tell_widths(graph: Graph, ratios: Mapping[int, float], how: Plan, progress: Progress, *, alone: bool) -> None:
    """Warn of every group whose width is not what its ratio says.

    Args:
        graph: of the network as it comes.
        ratios: group index → fraction asked for.
        how: with the widths that rounding allows.
        progress: hears of it.
        alone: whether nothing but the ratios changes the network.

    Raises:
        BadInput: the ratios are all there is to do, and no width changes.
    """
    for index, ratio in ratios.items():
        group, width = graph.groups[index], how.sized[index]
        asked = ratio * group.width
        if abs(width - asked) >= 1:
            names = ", ".join(group.producers[:3]) + ", …" * (len(group.producers) > 3)
            progress.warn(
                f"--ratio {ratio:g} of {names}: {asked:.4g} of {group.width} channels asked, {width} stay by --round-to"
            )
    if alone and ratios and all(how.sized[index] == graph.groups[index].width for index in ratios):
        widths = ", ".join(f"{group.width} channels" for group in (graph.groups[index] for index in ratios))
        raise BadInput(
            "no --ratio changes a width",
            got=f"the ratios {', '.join(f'{ratio:g}' for ratio in ratios.values())} of {widths}",
            fix="Ask for less, or use a smaller --round-to.",
        )
