"""The pictures that a pruning sees: from ``train`` for criteria and BatchNorm, from ``select`` for accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.base.task import need_classifier
from deploykit.config.prune import PruneConfig
from deploykit.config.registries import CRITERIA
from deploykit.data import DataSource, Split, map_classes, prepare
from deploykit.evaluation.snr import Sums

if TYPE_CHECKING:
    from torch import nn

    from deploykit.models import LoadedModel

EQUAL_DB = 300.0
"""What equal outputs count as."""


@dataclass(frozen=True)
class PruningPictures:
    """Pictures of one data set.

    ``train``: its train split. ``select``: its select split.
    """

    train: Split
    select: Split
    config: PruneConfig

    def order(self, loaded: LoadedModel, progress: Progress) -> np.ndarray | None:
        """The model's output for each class of the data; None for one that is no classifier, or whose order is the data's.

        Raises:
            BadInput: the classes do not fit; a criterion that needs labels, of what is no classifier.
        """
        if loaded.task != "classify":
            if CRITERIA[self.config.importance].from_labels:
                need_classifier(loaded.task, "the model", f"importance {self.config.importance}")
            return None
        if not self.train.labelled:
            return None
        outputs = len(loaded.classes) if loaded.classes else None
        if loaded.classes is None:
            from deploykit.models.heads import output_size

            outputs = output_size(loaded.module)
        if loaded.classes is None and outputs != len(self.train.classes):
            raise BadInput(
                "the model's outputs do not fit the data's classes", got=outputs, expected=len(self.train.classes)
            )
        found, note = map_classes(loaded.classes, self.train.classes)
        if note:
            progress.say(note)
        return found

    def batches(
        self, preprocessing: Preprocessing, order: np.ndarray | None, most: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Prepared batches of random images of ``train``: float32 [N, C, H, W], int64 [N] outputs.

        ``most``: images; None: ``config.images``.
        """
        picked = self.train.chosen(self.config.images if most is None else most, "drawn", self.config.seed)
        yield from _batches(self.train, picked, self.config.batch, preprocessing, order)

    def nearness_db(self, module: nn.Module, whole: nn.Module, preprocessing: Preprocessing) -> float | None:
        """SNR of the outputs of ``module`` against those of ``whole`` on ``select``: of the output that is least near."""
        import torch
        from torch.utils._pytree import tree_leaves

        from deploykit.models.device import beside

        picked = self.select.chosen(self.config.select_images, "ends")
        sums: dict[int, Sums] = {}
        with torch.inference_mode():
            for x, _ in _batches(self.select, picked, self.config.batch, preprocessing, None):
                given = beside(module, x)
                for index, pair in enumerate(zip(tree_leaves(whole(given)), tree_leaves(module(given)), strict=True)):
                    if isinstance(pair[0], torch.Tensor):
                        sums.setdefault(index, Sums()).add(*(one.cpu().numpy() for one in pair))
        known = [EQUAL_DB if one.identical else one.snr_db for one in sums.values()]
        return min((one for one in known if one is not None), default=None)

    def right(self, module: nn.Module, preprocessing: Preprocessing, order: np.ndarray | None) -> np.ndarray | None:
        """Which of up to ``config.select_images`` images spread over ``select`` are classified right, bool [N].

        None where it is empty or has no labels.
        """
        import torch

        from deploykit.models.device import beside

        picked = self.select.chosen(self.config.select_images, "ends")
        if not len(picked) or not self.select.labelled:
            return None
        right = []
        with torch.inference_mode():
            for x, y in _batches(self.select, picked, self.config.batch, preprocessing, order):
                right.append(module(beside(module, x)).argmax(1).cpu().numpy() == y)
        return np.concatenate(right)


def pruning_pictures(config: PruneConfig, source: DataSource) -> PruningPictures:
    """The pictures of opened data.

    Raises:
        BadInput: the data cannot be read, or hold no training pictures.
    """
    if CRITERIA[config.importance].from_labels:
        source.need_labels(f"--importance {config.importance}")
    train, select = source.split("train"), source.split("select")
    if len(train) < 2:
        raise BadInput(f"{config.data} has too few training pictures", got=len(train), expected="two and more")
    return PruningPictures(train, select, config)


def _batches(
    split: Any, picked: np.ndarray, batch: int, preprocessing: Preprocessing, order: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(picked), batch):
        indices = picked[start : start + batch]
        labels = split.labels[indices]
        yield prepare([split.image(int(i)) for i in indices], preprocessing), labels if order is None else order[labels]
