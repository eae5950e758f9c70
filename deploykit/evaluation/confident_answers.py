"""How many answers of a classifier another engine keeps, and how many of those that the classifier is sure of.

What a float network is itself unsure of flips by any noise: on real weights the best int8 keeps 0.6 to 0.9 of all
answers, a broken one little less. Of the answers with a top-1 probability of at least one half an ordinary int8 keeps
0.95 and more, a broken one does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deploykit.evaluation.confidence import confidences

CONFIDENT = 0.5
TIE_RATIO = 2e-4


@dataclass(frozen=True)
class Answers:
    """Two classifiers' answers to the same images.

    Attributes:
        n: number of images.
        same: with the same largest logit.
        ties: with another one, where the reference cannot itself tell the two apart: its logits lie closer than
            ``TIE_RATIO`` times the row's RMS, which another order of fp32 additions may move.
        confident: images whose top-1 probability by the reference is at least ``CONFIDENT``.
        kept: of these, with the same answer or a tie.
    """

    n: int = 0
    same: int = 0
    ties: int = 0
    confident: int = 0
    kept: int = 0

    def __add__(self, more: Answers) -> Answers:
        return Answers(**{name: count + getattr(more, name) for name, count in vars(self).items()})

    @property
    def changed(self) -> int:
        """Images whose answer changed, ties not counted."""
        return self.n - self.same - self.ties


def answers_of(reference: np.ndarray, candidate: np.ndarray) -> Answers:
    """Count over some images.

    ``reference``: logits or probabilities ``[N, C]`` of what is right. ``candidate``: of what is judged, the same shape.
    A row with a number that is not finite on the candidate's side has changed, on the reference's side too.
    """
    if not len(reference):
        return Answers()
    known = np.isfinite(reference).all(axis=1)
    whole = known & np.isfinite(candidate).all(axis=1)
    exact = np.where(known[:, None], np.asarray(reference, np.float64), 0.0)
    mine, theirs = exact.argmax(axis=1), np.where(whole[:, None], candidate, 0.0).argmax(axis=1)
    same, rows = whole & (mine == theirs), np.arange(len(exact))
    near = exact[rows, mine] - exact[rows, theirs] <= TIE_RATIO * np.sqrt(np.mean(np.square(exact), axis=1))
    tie = whole & (mine != theirs) & near
    sure = known & (confidences(exact) >= CONFIDENT)
    return Answers(
        n=len(exact),
        same=int(same.sum()),
        ties=int(tie.sum()),
        confident=int(sure.sum()),
        kept=int((sure & (same | tie)).sum()),
    )
