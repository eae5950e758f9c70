"""Several teachers answering as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor
from torch.nn import functional

ROUNDS = 500
ENOUGH = 1e-7


def as_one(logits: Sequence[Tensor], temperature: float, how: str = "average", weights: Sequence[float] = ()) -> Tensor:
    """Logits whose softmax at ``temperature`` is the teachers' combined distribution.

    ``average`` is the arithmetic mean of the distributions (Hinton et al. 2015, section 2); ``weighted`` that mean with
    ``weights``; ``vote`` the mean of those teachers alone whose first class is the one that most of them name. Of
    classes with equally many votes the one with the higher mean probability counts.

    ``logits``: one ``[N, C]`` per teacher. ``temperature``: at which they are averaged, that of the loss. ``how``:
    ``average``, ``weighted`` or ``vote``. ``weights``: one per teacher, for ``weighted``. Returns ``[N, C]``; of a
    single teacher its own logits.
    """
    if len(logits) == 1:
        return logits[0]
    log = torch.stack([functional.log_softmax(one.float() / temperature, dim=1) for one in logits])
    if how == "vote":
        share = _of_the_majority(log)
    elif how == "weighted":
        share = log.new_tensor(weights)[:, None].expand(log.shape[:2])
    else:
        share = log.new_full(log.shape[:2], 1 / len(log))
    return temperature * torch.logsumexp(log + share.log()[:, :, None], dim=0)


def _of_the_majority(log: Tensor) -> Tensor:
    """Each teacher's share ``[K, N]``: equal among those that voted for the winning class, 0 for the others."""
    votes = functional.one_hot(log.argmax(dim=2), log.shape[2]).to(log.dtype)
    counted = votes.sum(dim=0) + log.exp().mean(dim=0) / 2
    agrees = votes.gather(2, counted.argmax(dim=1)[None, :, None].expand(len(log), -1, 1)).squeeze(2)
    return agrees / agrees.sum(dim=0)


def weights_by_select(logits: Sequence[np.ndarray], labels: np.ndarray) -> tuple[float, ...]:
    """The weights of the mixture of the teachers' distributions that gives the labels the highest likelihood.

    The likelihood is concave in the weights; expectation-maximisation (Dempster, Laird & Rubin 1977, section 4.3, with
    fixed components) climbs it without a step size.

    ``logits``: float ``[N, C]`` per teacher, on ``select``. ``labels``: int64 ``[N]``. Returns one weight per teacher,
    their sum 1.
    """
    rows = np.arange(len(labels))
    of_labels = [softmax(one.astype(np.float64), axis=1)[rows, labels] for one in logits]
    probability = np.maximum(np.stack(of_labels), 1e-12)
    weights = np.full(len(logits), 1 / len(logits))
    for _ in range(ROUNDS):
        share = weights[:, None] * probability
        new = (share / share.sum(axis=0)).mean(axis=1)
        done = np.abs(new - weights).max() < ENOUGH
        weights = new
        if done:
            break
    return tuple(float(weight) for weight in weights)
