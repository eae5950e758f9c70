"""Batches of training pictures: shuffled by seed and epoch, read ahead, shared out over processes, cut into epochs or rounds."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from lightning_fabric import Fabric

from deploykit.base.environment import cores
from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.config.train import LoopConfig
from deploykit.data import Split, prepare
from deploykit.training.augment import resized_crop_box
from deploykit.training.randomness import seed_of, uniform

AHEAD = 3
READERS = 4


@dataclass(frozen=True)
class Batch:
    """This process's share of one global batch.

    ``images``: uint8 [N, H, W, 3], at the size of the network's input. ``labels``: int64 [N]. ``indices``: int64 [N],
    of the pictures in the split. ``share``: this share's part of the global batch times the number of processes: the
    factor that makes the mean of the processes' mean losses the mean over the global batch.
    """

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    share: float


class Batches:
    """The train split as global batches.

    Every picture is seen once an epoch. There is no small last batch: the pictures are shared out evenly over
    ⌈pictures / batch⌉ batches, so that all have ``batch`` pictures or a few less (a last batch of one picture would
    spoil the statistics of BatchNorm, and leaving it out would drop pictures).

    ``preprocessing``: its geometry is applied, its normalisation is not. ``batch``: global batch size. ``crop``:
    smallest area of a random resized crop, or None. ``world``: number of processes. ``readers``: threads that read and
    decode pictures; None: what the machine's cores allow.

    Raises:
        BadInput: the batch is larger than the split, or smaller than the number of processes.
    """

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        batch: int,
        *,
        seed: int = 0,
        crop: float | None = None,
        rank: int = 0,
        world: int = 1,
        readers: int | None = None,
    ) -> None:
        if batch > len(split):
            raise BadInput(
                "the batch is larger than the train split",
                got=f"batch {batch} and {len(split)} pictures",
                fix=f"Use --batch {max(1, min(len(split), 64))} or less.",
            )
        self.split, self.batch, self.seed, self.crop = split, batch, seed, crop
        self.rank, self.world = rank, world
        self.readers = readers or (READERS if cores() > 2 else 1)
        self.preprocessing = replace(preprocessing, embedded=True, layout="NHWC")
        self.per_epoch, self.images = -(-len(split) // batch), len(split)
        if len(split) // self.per_epoch < world:
            raise BadInput("the batch is smaller than the number of processes", got=f"batch {batch}, {world} processes")

    def order(self, epoch: int) -> list[np.ndarray]:
        """The indices of each global batch of an epoch."""
        shuffled = np.random.default_rng([self.seed, epoch]).permutation(len(self.split))
        return np.array_split(shuffled, self.per_epoch)

    def __call__(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This process's shares of the batches of an epoch from batch ``start`` on, read ahead by a few."""
        waiting: list[Future[Batch]] = []
        with ThreadPoolExecutor(self.readers, thread_name_prefix="deploykit-read") as pool:
            try:
                for indices in self.order(epoch)[start:]:
                    waiting.append(pool.submit(self._read, indices, epoch))
                    if len(waiting) >= AHEAD + self.readers:
                        yield waiting.pop(0).result()
                while waiting:
                    yield waiting.pop(0).result()
            finally:
                for future in waiting:
                    future.cancel()

    def _read(self, whole: np.ndarray, epoch: int) -> Batch:
        indices = whole[self.rank :: self.world]
        images = [self.split.image(int(i)) for i in indices]
        preprocessing = self.preprocessing
        if self.crop is not None:
            draws = uniform(seed_of(self.seed, "crop", epoch), indices, 40)
            images = [_cropped(image, self.crop, row) for image, row in zip(images, draws, strict=True)]
            preprocessing = replace(preprocessing, resize=None)
        return Batch(
            images=prepare(images, preprocessing),
            labels=self.split.labels[indices],
            indices=indices,
            share=len(indices) * self.world / len(whole),
        )


def _cropped(image: np.ndarray, smallest: float, draws: np.ndarray) -> np.ndarray:
    top, left, height, width = resized_crop_box(image.shape[0], image.shape[1], smallest, draws)
    return np.ascontiguousarray(image[top : top + height, left : left + width])


class Rounds(Batches):
    """The batches of ``batches``, epoch after epoch, cut into rounds."""

    def __init__(self, batches: Batches, steps: int) -> None:
        vars(self).update(vars(batches))
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


def shared_batches(split: Split, preprocessing: Preprocessing, config: LoopConfig, fabric: Fabric) -> Batches:
    """The train split as the global batches of a training, of which ``fabric``'s process takes its shares."""
    return Batches(
        split,
        preprocessing,
        config.batch,
        seed=config.seed,
        crop=config.augment.crop,
        rank=fabric.global_rank,
        world=fabric.world_size,
    )
