"""Epochs of another length: rounds of so many steps, after each of which the loop looks at ``select``."""

from __future__ import annotations

from collections.abc import Iterator

from deploykit.training.batches import Batch, Batches


class Rounds(Batches):
    """The batches of ``batches``, epoch after epoch, cut into rounds.

    Args:
        batches: the train split.
        steps: of a round.
    """

    def __init__(self, batches: Batches, steps: int) -> None:
        super().__init__(
            batches.split,
            batches.preprocessing,
            batches.batch,
            seed=batches.seed,
            crop=batches.crop,
            rank=batches.rank,
            world=batches.world,
            readers=batches.readers,
        )
        self.whole, self.images = batches, round(len(batches.split) * steps / batches.per_epoch)
        self.per_epoch = steps

    def __call__(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This process's shares of the batches of round ``epoch`` from its step ``start`` on."""
        first, last = epoch * self.per_epoch + start, (epoch + 1) * self.per_epoch
        while first < last:
            pass_, at = divmod(first, self.whole.per_epoch)
            for batch in self.whole(pass_, at):
                yield batch
                first += 1
                if first == last:
                    return
