from __future__ import annotations

import pytest

from deploykit.base.errors import BadInput
from deploykit.distillation.student import scaled_down, smaller_members
from deploykit.models import build, count, parse_arch


def test_the_largest_member_within_the_budget() -> None:
    arch = parse_arch("deploykit:resnet:num_classes=10,depth=14,widths=[32, 64, 128],stem_stride=2")
    macs = count(build(arch), (32, 32)).macs
    chosen = scaled_down(arch, macs, (32, 32), 0.5)
    assert chosen.macs == count(build(chosen.arch), (32, 32)).macs <= 0.5 * macs
    assert chosen.arch.kwargs["num_classes"] == 10
    for other in smaller_members(arch):
        found = count(build(other), (32, 32)).macs
        assert found > 0.5 * macs or found <= chosen.macs


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("torchvision:resnet50:num_classes=7", "resnet18"),
        ("torchvision:mobilenet_v3_large:num_classes=7", "mobilenet_v3_small"),
        ("torchvision:efficientnet_b1:num_classes=7", "efficientnet_b0"),
    ],
)
def test_published_families(teacher: str, student: str) -> None:
    arch = parse_arch(teacher)
    macs = 10**12
    chosen = scaled_down(arch, macs, (64, 64), 0.9)
    assert chosen.arch.name in {member.name for member in smaller_members(arch)}
    assert smaller_members(arch)[-1].name == student
    assert chosen.arch.kwargs == {"num_classes": 7}


def test_no_family_and_no_member_small_enough() -> None:
    with pytest.raises(
        BadInput, match=r"no smaller network of the family of timm:resnet18 is known\. Name the student"
    ):
        scaled_down(parse_arch("timm:resnet18"), 10**9, (32, 32), 0.5)
    arch = parse_arch("deploykit:mobilenetv2:width=0.5")
    macs = count(build(arch), (32, 32)).macs
    with pytest.raises(
        BadInput, match=r"no member .* has 0\.01 of its .* got .* for the smallest, deploykit:mobilenetv2 width="
    ):
        scaled_down(arch, macs, (32, 32), 0.01)
