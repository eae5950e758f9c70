from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from deploykit.config.train import AugmentConfig
from deploykit.training.augment import augment, jitter, mix, resized_crop_box, rotate, shift
from deploykit.training.randomness import uniform


@pytest.fixture
def pictures(digits) -> torch.Tensor:
    return torch.from_numpy(digits[0][:16].copy()).permute(0, 3, 1, 2)


EVERY = [
    AugmentConfig(shift_px=3),
    AugmentConfig(flip=0.5),
    AugmentConfig(rotate_degrees=15),
    AugmentConfig(color=0.4),
    AugmentConfig(randaugment=2),
    AugmentConfig(shift_px=2, flip=0.5, rotate_degrees=10, color=0.2, randaugment=1),
]


@pytest.mark.parametrize("config", EVERY, ids=lambda c: ",".join(c.model_dump(exclude_defaults=True)))
def test_a_picture_is_changed_alike_in_any_batch(pictures: torch.Tensor, config: AugmentConfig) -> None:
    indices = np.arange(16)
    whole = augment(pictures, config, 0, 1, indices)
    order = np.array([9, 2, 5])
    assert whole.dtype == torch.uint8
    assert whole.shape == pictures.shape
    assert torch.equal(augment(pictures[order], config, 0, 1, order), whole[order])
    assert not torch.equal(whole, pictures)
    assert not torch.equal(augment(pictures, config, 0, 2, indices), whole)


def test_the_global_generator_is_left_alone(pictures: torch.Tensor) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    augment(pictures, EVERY[-1], 0, 0, np.arange(16))
    mix(pictures.float(), torch.arange(16) % 10, AugmentConfig(mixup=0.2, cutmix=1.0), 10, 3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_nothing_asked_nothing_done(pictures: torch.Tensor) -> None:
    assert torch.equal(augment(pictures, AugmentConfig(), 0, 0, np.arange(16)), pictures)


def test_shift_is_pad_and_crop(pictures: torch.Tensor) -> None:
    moved = shift(pictures[:2], 3, torch.tensor([0.0, 0.99]), torch.tensor([0.5, 0.0]))
    padded = tv.pad(pictures[:2], [3])
    assert torch.equal(moved[0], padded[0, :, 0:32, 3:35])
    assert torch.equal(moved[1], padded[1, :, 6:38, 0:32])


def test_rotation_is_torchvisions_inside(pictures: torch.Tensor) -> None:
    quarter = rotate(pictures[:1], torch.tensor([90.0]))
    assert (quarter.float() - torch.rot90(pictures[:1], 1, (2, 3)).float()).abs().max() <= 1
    wide = pictures[:1, :, 4:28]
    theirs = tv.rotate(wide, 10.0, interpolation=tv.InterpolationMode.BILINEAR)
    near = rotate(wide, torch.tensor([10.0]))[..., 8:16, 8:24].float() - theirs[..., 8:16, 8:24].float()
    assert near.abs().max() <= 1


def test_colour_is_torchvisions(pictures: torch.Tensor) -> None:
    colourful = torch.stack([pictures[:4, 0], pictures[4:8, 0], pictures[8:12, 0]], dim=1)
    factors = torch.tensor([[1.3, 0.7, 1.2]]).expand(4, 3)
    ours = jitter(colourful, factors)
    theirs = tv.adjust_saturation(tv.adjust_contrast(tv.adjust_brightness(colourful, 1.3), 0.7), 1.2)
    assert (ours.float() - theirs.float()).abs().max() <= 3  # theirs rounds after each of the three


@pytest.mark.parametrize("config", [AugmentConfig(mixup=0.4), AugmentConfig(cutmix=1.0)])
def test_mixed_targets_sum_to_one_and_mix_as_much_as_the_pictures(config: AugmentConfig) -> None:
    x = torch.eye(4)[:, :3, None, None].expand(4, 3, 16, 16).contiguous()  # the last picture is black
    y = torch.tensor([0, 1, 2, 3])
    mixed, target = mix(x, y, config, 4, seed=11)
    assert target.sum(1) == pytest.approx(torch.ones(4))
    assert mixed.mean((2, 3)) == pytest.approx(target[:, :3], abs=1e-5)
    again, _ = mix(x, y, config, 4, seed=11)
    assert torch.equal(mixed, again)


def test_boxes_lie_inside_and_keep_enough() -> None:
    for draws in uniform(0, np.arange(300), 40):
        top, left, height, width = resized_crop_box(60, 80, 0.3, draws)
        assert 0 <= top <= 60 - height
        assert 0 <= left <= 80 - width
        assert height * width >= 0.29 * 60 * 80
    assert resized_crop_box(1, 500, 1.0, uniform(0, np.arange(1), 40)[0]) == (0, 249, 1, 1)
