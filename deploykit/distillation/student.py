"""``auto``: the smaller members of a teacher's family, and the largest of them within a budget of MACs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from deploykit.base.checkpoint import Arch
from deploykit.base.errors import BadInput
from deploykit.models import count
from deploykit.models.build import build_meta

_LADDERS = (
    ("resnet152", "resnet101", "resnet50", "resnet34", "resnet18"),
    ("wide_resnet101_2", "wide_resnet50_2", "resnet50", "resnet34", "resnet18"),
    ("resnext101_64x4d", "resnext101_32x8d", "resnext50_32x4d"),
    ("vgg19", "vgg16", "vgg13", "vgg11"),
    ("vgg19_bn", "vgg16_bn", "vgg13_bn", "vgg11_bn"),
    ("densenet161", "densenet201", "densenet169", "densenet121"),
    tuple(f"efficientnet_b{n}" for n in range(7, -1, -1)),
    ("efficientnet_v2_l", "efficientnet_v2_m", "efficientnet_v2_s"),
    ("convnext_large", "convnext_base", "convnext_small", "convnext_tiny"),
    tuple(f"regnet_y_{n}" for n in ("128gf", "32gf", "16gf", "8gf", "3_2gf", "1_6gf", "800mf", "400mf")),
    tuple(f"regnet_x_{n}" for n in ("32gf", "16gf", "8gf", "3_2gf", "1_6gf", "800mf", "400mf")),
    ("mobilenet_v3_large", "mobilenet_v3_small"),
    ("mnasnet1_3", "mnasnet1_0", "mnasnet0_75", "mnasnet0_5"),
    ("shufflenet_v2_x2_0", "shufflenet_v2_x1_5", "shufflenet_v2_x1_0", "shufflenet_v2_x0_5"),
    ("squeezenet1_0", "squeezenet1_1"),
)
_WIDTHS = (0.875, 0.75, 0.625, 0.5, 0.375, 0.25)
_MULTIPLE = 8


@dataclass(frozen=True)
class Chosen:
    """A member of the family.

    ``arch``: how to build it. ``macs``: of one picture.
    """

    arch: Arch
    macs: int


def smaller_members(arch: Arch) -> list[Arch]:
    """Every smaller member of the family that is known, the teacher's number of classes kept; pruned shapes are not.

    deploykit's ResNets shrink in width and depth, its MobileNetV2 in width, torchvision's along their published sizes;
    torchvision's MobileNetV2 in its width multiplier.
    """
    classes = {key: value for key, value in arch.kwargs.items() if key == "num_classes"}
    if (arch.source, arch.name) == ("deploykit", "resnet"):
        depths = range(int(arch.kwargs.get("depth", 20)), 7, -6)
        widths = list(arch.kwargs.get("widths", (16, 32, 64)))
        return [
            Arch("deploykit", "resnet", {**arch.kwargs, "depth": depth, "widths": [_part(w, share) for w in widths]})
            for depth in depths
            for share in (1.0, *_WIDTHS)
            if depth < depths[0] or share < 1
        ]
    if (arch.source, arch.name) == ("deploykit", "mobilenetv2"):
        width = float(arch.kwargs.get("width", 1.0))
        return [Arch("deploykit", "mobilenetv2", {**arch.kwargs, "width": width * share}) for share in _WIDTHS]
    if (arch.source, arch.name) == ("torchvision", "mobilenet_v2"):
        width = float(arch.kwargs.get("width_mult", 1.0))
        return [Arch("torchvision", "mobilenet_v2", {**classes, "width_mult": width * share}) for share in _WIDTHS]
    if arch.source == "torchvision":
        for ladder in _LADDERS:
            if arch.name in ladder:
                return [Arch("torchvision", name, dict(classes)) for name in ladder[ladder.index(arch.name) + 1 :]]
    return []


def scaled_down(arch: Arch, macs: int, size: tuple[int, int], share: float) -> Chosen:
    """The member of ``arch``'s family with the most MACs, but at most ``share`` of the teacher's.

    ``share``: 0…1.

    Raises:
        BadInput: no smaller member is known, or none is small enough (the smallest is named).
    """
    known = _counted(smaller_members(arch), size, lambda found: found < macs)
    if not known:
        raise BadInput(f"no smaller network of the family of {arch} is known", fix="Name the student with --arch.")
    fitting = [one for one in known if one[0] <= share * macs]
    if not fitting:
        least, named = min(known, key=lambda one: one[0])
        raise BadInput(
            f"no member of the family of {arch} has {share:g} of its {macs / 1e6:.1f} million MACs or less",
            got=f"{least / 1e6:.1f} million ({least / macs:.2f}) for the smallest, {named} {_told(named)}".rstrip(),
            fix="Prune a student to that budget with `deploykit prune`, or raise --macs.",
        )
    found, chosen = max(fitting, key=lambda one: one[0])
    return Chosen(chosen, found)


def _counted(archs: list[Arch], size: tuple[int, int], wanted: Callable[[int], bool]) -> list[tuple[int, Arch]]:
    found = []
    with torch.random.fork_rng(devices=[]):
        for arch in archs:
            macs = count(build_meta(arch), size).macs
            if wanted(macs):
                found.append((macs, arch))
    return found


def _told(arch: Arch) -> str:
    return ", ".join(f"{key}={value}" for key, value in arch.kwargs.items() if key != "num_classes")


def _part(width: int, share: float) -> int:
    """A share of a width, in multiples of 8 where it has them."""
    if width < 2 * _MULTIPLE:
        return max(1, round(width * share))
    return max(_MULTIPLE, round(width * share / _MULTIPLE) * _MULTIPLE)
