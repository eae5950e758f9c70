"""Accuracy on corrupted images: a variant that equals the baseline on clean ones may still be worse on real ones.

The corruptions are small, seeded and of several strengths: what a camera, a lamp or a codec does to images. Source:
Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations", ICLR 2019;
the kinds and the order of their strengths, with lengths relative to the image's shorter side, so that 32-pixel and
224-pixel images suffer alike.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from deploykit.base.errors import AnswerNo
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import SILENT, Progress
from deploykit.base.runner import Runner, fed_batch
from deploykit.evaluation.agreement import compare
from deploykit.evaluation.run_classifier import in_data_order
from deploykit.reporting.quality import Robustness
from deploykit.stats.proportions import wilson

if TYPE_CHECKING:
    from PIL.Image import Image

    from deploykit.data import Split

STRENGTHS = (1, 2, 3)
_NOISE = (0.04, 0.08, 0.16)  # standard deviation, of the range of a pixel
_BLUR = (0.012, 0.02, 0.035)  # standard deviation of the Gaussian, of the shorter side
_BRIGHTNESS = (0.1, 0.2, 0.3)  # added, of the range of a pixel
_JPEG = (60, 30, 15)  # quality


def _noise(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    shaken = image + generator.normal(0, 255 * _NOISE[strength - 1], image.shape)
    return np.clip(np.round(shaken), 0, 255).astype(np.uint8)


def _blur(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    from PIL import ImageFilter

    radius = _BLUR[strength - 1] * min(image.shape[:2])
    return _of_bands(image, lambda one: one.filter(ImageFilter.GaussianBlur(radius)))


def _brightness(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    sign = 1 if generator.random() < 0.5 else -1
    return np.clip(image.astype(np.int16) + round(255 * sign * _BRIGHTNESS[strength - 1]), 0, 255).astype(np.uint8)


def _jpeg(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    from PIL import Image

    def again(one: Image.Image) -> Image.Image:
        packed = io.BytesIO()
        one.save(packed, "JPEG", quality=_JPEG[strength - 1])
        return Image.open(packed).convert(one.mode)

    return _of_bands(image, again)


def _of_bands(image: np.ndarray, change: Callable[[Image], Image]) -> np.ndarray:
    """``change`` of an image: of its colours together, of other numbers of channels one by one."""
    from PIL import Image

    if image.shape[2] == 3:
        return np.asarray(change(Image.fromarray(np.ascontiguousarray(image))))
    bands = [Image.fromarray(np.ascontiguousarray(image[..., i])) for i in range(image.shape[2])]
    return np.stack([np.asarray(change(one)) for one in bands], axis=-1)


CORRUPTIONS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "noise": _noise,
    "blur": _blur,
    "brightness": _brightness,
    "jpeg": _jpeg,
}
"""Name → what it does to a uint8 ``[H, W, C]`` image at a strength of :data:`STRENGTHS`."""


def corrupt(image: np.ndarray, name: str, strength: int, seed: int, number: int) -> np.ndarray:
    """One corrupted picture; the same arguments give the same picture, whoever asks and in whatever order.

    ``image``: uint8 ``[H, W, C]``. ``strength``: 1, 2 or 3. ``number``: of the picture; each has its own noise.
    """
    generator = np.random.default_rng([seed, list(CORRUPTIONS).index(name), strength, number])
    return CORRUPTIONS[name](image, strength, generator)


Answers = dict[tuple[str, int], np.ndarray]
"""Corruption and strength → predicted class of each picture, int64 [n]."""


def corrupted_answers(
    runner: Runner,
    split: Split,
    preprocessing: Preprocessing,
    images: int,
    batch: int,
    seed: int,
    progress: Progress = SILENT,
    *,
    name: str = "the model",
) -> Answers:
    """Run a classifier over corrupted pictures; only one batch of them is in memory at a time.

    ``runner``: an open engine. ``split``: whose pictures; ``images`` of them, spread evenly. ``images``: number of
    pictures at most, each corrupted in every way. ``batch``: pictures per call. ``name``: of the variant, for the bar
    and messages. Returns the answers in the data's class order.

    Raises:
        AnswerNo: NaN or infinite logits.
        BadInput: the model's classes do not fit the data's.
    """
    from deploykit.data import prepare

    chosen = split.chosen(images).tolist()
    fixed = fed_batch(runner, batch)
    size = fixed or batch
    ways = [(kind, strength) for kind in CORRUPTIONS for strength in STRENGTHS]
    found: Answers = {way: np.empty(len(chosen), dtype=np.int64) for way in ways}
    with progress.task(f"{name}: corruptions", total=len(ways) * len(chosen), unit="images") as task:
        for start in range(0, len(chosen), size):
            part = chosen[start : start + size]
            clean = [split.image(i) for i in part]
            for kind, strength in ways:
                pictures = [corrupt(image, kind, strength, seed, i) for image, i in zip(clean, part, strict=True)]
                pictures += [pictures[-1]] * (size - len(part) if fixed else 0)
                rows = runner(prepare(pictures, preprocessing))[: len(part)]
                if not np.isfinite(rows).all():
                    raise AnswerNo(f"{name}: NaN or infinite logits on pictures with {kind} of strength {strength}")
                ordered = in_data_order(rows, runner.classes, split.classes, name)
                found[kind, strength][start : start + len(part)] = ordered.argmax(axis=1)
                task.advance(len(part))
    return found


def judge_corrupted(
    answers: Answers, base: Answers | None, labels: np.ndarray, ci_level: float, seed: int
) -> list[Robustness]:
    """The report's ``robustness``: top-1 on each corruption, and the drop against the baseline on the same pictures.

    ``base``: of the baseline; None leaves the drop out. ``labels``: int64 [n] of the pictures.
    """
    found = []
    for (kind, strength), predicted in answers.items():
        right = predicted == labels
        low, high = wilson(int(right.sum()), len(labels), ci_level)
        found.append(
            Robustness(
                corruption=kind,
                strength=strength,
                n=len(labels),
                top1=float(right.mean()),
                top1_low=low,
                top1_high=high,
            )
        )
        if base is not None:
            against = compare(predicted, base[kind, strength], labels, ci_level, seed)
            drop = {key: against[key] for key in ("drop_pt", "drop_pt_low", "drop_pt_high")}
            found[-1] = found[-1].model_copy(update=drop)
    return found
