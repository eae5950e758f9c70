"""Random changes of training pictures, a batch at a time, on whatever device the batch is on.

Geometry and colour are drawn per picture from (seed, epoch, index) and applied to the whole batch at once; RandAugment,
mixup and cutmix are torchvision's (transforms v2).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from deploykit.base.errors import BadInput
from deploykit.config.train import AugmentConfig
from deploykit.training.randomness import seed_of, uniform

_LUMA = (0.299, 0.587, 0.114)


def augment(x: Tensor, config: AugmentConfig, seed: int, epoch: int, indices: np.ndarray) -> Tensor:
    """Change each picture at random: shift, flip, rotation, colour, RandAugment, in this order.

    ``x``: uint8 [N, 3, H, W]. ``epoch``: a picture is changed anew in each. ``indices``: int64 [N], of the pictures in
    the split. Returns uint8 [N, 3, H, W].
    """
    draws = torch.from_numpy(uniform(seed_of(seed, "augment", epoch), indices, 8)).to(x.device, torch.float32)
    if config.shift_px:
        x = shift(x, config.shift_px, draws[:, 0], draws[:, 1])
    if config.flip:
        x = torch.where((draws[:, 2] < config.flip)[:, None, None, None], x.flip(-1), x)
    if config.rotate_degrees:
        x = rotate(x, (2 * draws[:, 3] - 1) * config.rotate_degrees)
    if config.color:
        x = jitter(x, 1 + (2 * draws[:, 4:7] - 1) * config.color)
    if config.randaugment:
        x = _randaugment(x, config, seed_of(seed, "randaugment", epoch), indices)
    return x


def shift(x: Tensor, pixels: int, down: Tensor, right: Tensor) -> Tensor:
    """Pad with black by ``pixels`` and crop back at the offsets ``down`` and ``right``, each [N] in [0, 1)."""
    height, width = x.shape[-2:]
    padded = functional.pad(x, (pixels,) * 4)
    top = (down * (2 * pixels + 1)).long()
    left = (right * (2 * pixels + 1)).long()
    rows = top[:, None] + torch.arange(height, device=x.device)
    columns = left[:, None] + torch.arange(width, device=x.device)
    picture = torch.arange(len(x), device=x.device)
    moved = padded.permute(0, 2, 3, 1)[picture[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Rotate uint8 [N, 3, H, W] about the centre by ``degrees`` [N]; bilinear, the border repeated."""
    angle = torch.deg2rad(degrees)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    ratio = x.shape[-1] / x.shape[-2]
    matrix = torch.stack([cos, -sin / ratio, zero, sin * ratio, cos, zero], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    turned = functional.grid_sample(x.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return turned.round().clamp(0, 255).to(torch.uint8)


def jitter(x: Tensor, factors: Tensor) -> Tensor:
    """Brightness, contrast and saturation of uint8 [N, C, H, W] times ``factors`` [N, 3], as torchvision defines them.

    What is grey of other than three channels is their mean.
    """
    brightness, contrast, saturation = (factors[:, i, None, None, None] for i in range(3))
    weights = _LUMA if x.shape[1] == 3 else (1 / x.shape[1],) * x.shape[1]
    luma = torch.tensor(weights, device=x.device).view(1, -1, 1, 1)
    y = (x.float() * brightness).clamp(0, 255)
    mean = (y * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    y = (mean + (y - mean) * contrast).clamp(0, 255)
    grey = (y * luma).sum(1, keepdim=True)
    return (grey + (y - grey) * saturation).clamp(0, 255).round().to(torch.uint8)


def _randaugment(x: Tensor, config: AugmentConfig, seed: int, indices: np.ndarray) -> Tensor:
    if x.shape[1] not in (1, 3):
        raise BadInput("--augment randaugment", got=f"images of {x.shape[1]} channels", expected="1 or 3")
    transform = v2.RandAugment(num_ops=config.randaugment, magnitude=config.randaugment_magnitude)
    changed = []
    for picture, index in zip(x, indices, strict=True):
        with seeded(seed_of(seed, int(index))):
            changed.append(transform(picture))
    return torch.stack(changed)


def mix(x: Tensor, y: Tensor, config: AugmentConfig, num_classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Mixup (Zhang et al. 2018) or cutmix (Yun et al. 2019) of a batch; with both set, one of them by a fair coin.

    ``x``: float [N, 3, H, W]. ``y``: int64 [N]. ``num_classes``: C. Returns x of the same shape, and y as float [N, C];
    both unchanged where neither is on.
    """
    kinds: list[v2.Transform] = []
    if config.mixup:
        kinds.append(v2.MixUp(alpha=config.mixup, num_classes=num_classes))
    if config.cutmix:
        kinds.append(v2.CutMix(alpha=config.cutmix, num_classes=num_classes))
    if not kinds:
        return x, y
    with seeded(seed):
        kind = kinds[int(torch.randint(len(kinds), ()))]
        mixed, target = kind(x, y)
    return mixed, target


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's CPU generator set to ``seed`` inside the block, and as it was after it."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


def resized_crop_box(height: int, width: int, smallest: float, draws: np.ndarray) -> tuple[int, int, int, int]:
    """The box of a random resized crop (Szegedy et al. 2015, section 6), found by its first fit in ten tries.

    ``smallest``: share of the area that is kept at least. ``draws``: [40] uniform numbers. Returns top, left, height,
    width; the largest centred square where no try fits.
    """
    for scale, aspect, down, right in draws.reshape(10, 4):
        area = height * width * (smallest + (1 - smallest) * scale)
        ratio = float(np.exp(np.log(3 / 4) + (np.log(4 / 3) - np.log(3 / 4)) * aspect))
        h, w = round((area / ratio) ** 0.5), round((area * ratio) ** 0.5)
        if 0 < h <= height and 0 < w <= width:
            return int(down * (height - h + 1)), int(right * (width - w + 1)), h, w
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side
