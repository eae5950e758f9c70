"""Where two networks part: the first tensor, in the order of computation, whose SNR falls below a threshold.

Errors grow and shrink along a network (a saturating activation hides one, a residual branch brings it back), so the tensors are
looked at one after the other and not by halving. They are fetched in chunks: memory holds one chunk of both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deploykit.base.progress import SILENT, Progress
from deploykit.evaluation.snr import Sums

Fetch = Callable[[Sequence[str]], Mapping[str, np.ndarray]]
CHUNK = 8


@dataclass(frozen=True)
class Pair:
    """The same tensor on both sides.

    Attributes:
        reference: its name there.
        candidate: its name here.
        node: the candidate's node that makes it.
        op_type: of that node.
        module: the network's module it came from; empty where not known.
    """

    reference: str
    candidate: str
    node: str
    op_type: str
    module: str = ""


@dataclass(frozen=True)
class Parting:
    """Where the two part.

    Attributes:
        node: the first node whose output is beyond the threshold.
        op_type: its operator.
        module: the network's module it came from; empty where not known.
        snr_db: of its output; None where it has NaN or infinite numbers, or the reference is all zero.
        nan: its output has NaN or infinite numbers.
        before: the compared node before it, or None where it is the first.
        snr_before_db: of that one's output; None where identical, or where there is none.
        threshold_db: SNR below which two tensors count as parted.
        compared: how many tensors were compared up to there.
        total: how many could be.
    """

    node: str
    op_type: str
    module: str
    snr_db: float | None
    nan: bool
    before: str | None
    snr_before_db: float | None
    threshold_db: float
    compared: int
    total: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def line(self) -> str:
        """One sentence for people."""
        place = f" of module {self.module}" if self.module else ""
        here = (
            "NaN or infinite numbers" if self.nan else "no signal" if self.snr_db is None else f"{self.snr_db:.1f} dB"
        )
        if self.before is None:
            start = "the first tensor compared"
        else:
            start = (
                f"after {self.before} ({'identical' if self.snr_before_db is None else f'{self.snr_before_db:.1f} dB'})"
            )
        return f"they part at {self.node} ({self.op_type}{place}): {here}, {start}"


def first_parting(
    pairs: Sequence[Pair],
    reference: Fetch,
    candidate: Fetch,
    threshold_db: float,
    *,
    chunk: int = CHUNK,
    progress: Progress = SILENT,
) -> Parting | None:
    """The first pair whose SNR is below ``threshold_db``, or None where all agree.

    Args:
        pairs: in the order of computation.
        reference: name list → arrays of the reference, by name.
        candidate: the same of the candidate.
        threshold_db: in dB.
        chunk: pairs fetched at once.
        progress: shows one bar.

    A pair whose arrays have different shapes is no pair and is passed over.
    """
    before, before_db, compared = None, None, 0
    with progress.task("bisect", total=len(pairs), unit="tensors") as task:
        for start in range(0, len(pairs), chunk):
            part = pairs[start : start + chunk]
            mine = reference([pair.reference for pair in part])
            theirs = candidate([pair.candidate for pair in part])
            for pair in part:
                r, c = mine[pair.reference], theirs[pair.candidate]
                if r.shape != c.shape or not np.issubdtype(r.dtype, np.floating):
                    continue
                compared += 1
                sums = Sums()
                sums.add(r, c)
                if sums.broken or not (sums.identical or (sums.snr_db is not None and sums.snr_db >= threshold_db)):
                    return Parting(
                        node=pair.node,
                        op_type=pair.op_type,
                        module=pair.module,
                        snr_db=sums.snr_db,
                        nan=sums.broken,
                        before=before,
                        snr_before_db=before_db,
                        threshold_db=threshold_db,
                        compared=compared,
                        total=len(pairs),
                    )
                before, before_db = pair.node, sums.snr_db
            task.advance(len(part))
    return None
