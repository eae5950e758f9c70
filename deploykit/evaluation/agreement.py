"""What changed between two models on the same images: equal accuracy hides flips."""

from __future__ import annotations

from typing import Literal, TypedDict

import numpy as np

from deploykit.evaluation.accuracy import predictions
from deploykit.stats.paired import bootstrap_mean, mcnemar, score_interval

FEW_DISCORDANT = 10


class Difference(TypedDict):
    """What changed against a baseline on the same images.

    The drop of top-1 with its interval is in percentage points, positive when worse; ``drop_interval`` says how it was
    found, ``exact`` where the logits are identical; agreement and negative flips are shares of the images.
    """

    drop_pt: float
    drop_pt_low: float
    drop_pt_high: float
    drop_interval: Literal["bootstrap", "score", "exact"]
    agreement: float
    negative_flips: float
    mcnemar_p: float


def agreement(
    logits: np.ndarray, base_logits: np.ndarray, labels: np.ndarray, ci_level: float = 0.95, seed: int = 0
) -> Difference:
    """The drop in top-1 against a baseline with its paired interval, agreement, negative flips and McNemar's p.

    Negative flips are images that the baseline gets right and this model wrong (Yan et al., "Positive-congruent
    training", CVPR 2021). The interval of the drop is the bootstrap of the paired differences; where fewer than
    ``FEW_DISCORDANT`` images changed sides it is Tango's score interval instead, because the bootstrap of a handful of
    events is too narrow (without any it would claim certainty), and its upper bound is what a budget is held against.

    ``logits``: [N, C] of the model. ``base_logits``: [N, C] of the baseline, the same images in the same order.
    ``labels``: int64 [N].
    """
    same = logits is base_logits or np.array_equal(logits, base_logits)
    return compare(predictions(logits), predictions(base_logits), labels, ci_level, seed, identical=same)


def compare(
    ours: np.ndarray,
    base: np.ndarray,
    labels: np.ndarray,
    ci_level: float = 0.95,
    seed: int = 0,
    *,
    identical: bool = False,
) -> Difference:
    """What :func:`agreement` finds, from the answers alone.

    ``ours``: int64 [N], answers of the model. ``base``: int64 [N], of the baseline. ``labels``: int64 [N].
    ``identical``: the logits themselves are equal, so that the drop is 0 beyond doubt.
    """
    n = len(labels)
    method: Literal["bootstrap", "score", "exact"]
    right, base_right = ours == labels, base == labels
    lost = int(np.count_nonzero(base_right & ~right))
    won = int(np.count_nonzero(right & ~base_right))
    if identical:
        low = high = 0.0
        method = "exact"
    elif lost + won < FEW_DISCORDANT:
        low, high = score_interval(lost, won, n, ci_level)
        method = "score"
    else:
        low, high = bootstrap_mean(base_right.astype(np.float64) - right, ci_level, seed=seed)
        method = "bootstrap"
    return {
        "drop_pt": 100 * (lost - won) / n,
        "drop_pt_low": 100 * low,
        "drop_pt_high": 100 * high,
        "drop_interval": method,
        "agreement": float(np.mean(ours == base)),
        "negative_flips": lost / n,
        "mcnemar_p": mcnemar(lost, won),
    }
