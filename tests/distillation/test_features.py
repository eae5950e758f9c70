from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from deploykit.base.errors import BadInput
from deploykit.distillation.features import Tapped, TappedStudent, pairs_of, plain, tapped
from deploykit.models import build
from deploykit.training.resume import Course, Outcome

SIZE = (16, 16)


def net(widths: list[int]) -> nn.Module:
    torch.manual_seed(0)
    return build("deploykit:resnet", 10, kwargs={"depth": 8, "widths": widths})


def test_taps_give_what_the_layers_gave_and_change_nothing() -> None:
    module = net([8, 8, 16]).eval()
    x = torch.randn(2, 3, 16, 16)
    output, features = Tapped(module, ["layer1.0", "fc"])(x)
    assert torch.equal(output, module(x))
    assert torch.equal(features[1], output)
    assert features[0].shape == (2, 8, 16, 16)
    assert not any(layer._forward_hooks for layer in module.modules())


def test_a_copied_student_taps_itself() -> None:
    student, _ = tapped(net([8, 8, 16]), net([8, 16, 32]), ["layer2"], "hint", SIZE)
    other = copy.deepcopy(student).train()
    with torch.no_grad():
        other.student.conv1.weight.zero_()
    x = torch.randn(2, 3, 16, 16)
    assert not torch.equal(student.train()(x)[1][0], other(x)[1][0])


def test_projections_where_channels_differ_and_only_for_hints() -> None:
    student, teacher = net([8, 8, 16]), net([8, 16, 32])
    made, notes = tapped(student, teacher, ["layer1", "layer2=layer2.0"], "hint", SIZE)
    assert [type(one).__name__ for one in made.projections] == ["Identity", "Conv2d"]
    assert notes == ["layer2 is matched with layer2.0 through a learned projection, 8 → 16"]
    assert made.train()(torch.randn(2, 3, 16, 16))[1][1].shape == (2, 16, 8, 8)
    assert isinstance(made.eval()(torch.randn(2, 3, 16, 16)), torch.Tensor)
    plainly, notes = tapped(student, teacher, ["layer2"], "attention", SIZE)
    assert isinstance(plainly.projections[0], nn.Identity)
    assert notes == []
    vectors, _ = tapped(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), teacher, ["1=fc"], "hint", SIZE)
    assert isinstance(vectors.projections[0], nn.Linear)


def test_the_students_own_tensors_come_back() -> None:
    student = net([8, 8, 16])
    made = TappedStudent(student, ["layer1"], [nn.Conv2d(8, 16, 1)])
    outcome = Outcome(made.state_dict(), made.state_dict(), Course())
    assert plain(outcome, "student.").tensors.keys() == student.state_dict().keys()
    assert plain(outcome, "student.").ema.keys() == student.state_dict().keys()
    assert plain(outcome, "") is outcome


@pytest.mark.parametrize(
    ("layers", "features", "message"),
    [
        (["layr2"], "hint", r"the student has no layer 'layr2'\. Did you mean 'layer2'\?"),
        (["layer2=layer2.00"], "hint", r"the teacher has no layer 'layer2\.00'\. Did you mean"),
        (["zzz"], "hint", r"the student has no layer 'zzz'; expected one of its \d+ layers \(conv1, "),
        (["fc"], "attention", r"attention is compared between maps; fc gives none; got .*\[1, 10\].*earlier layer"),
        (["layer2=fc"], "hint", r"the layers cannot be matched; got outputs of shape \[1, 8, 8, 8\] and \[1, 10\]"),
        (["layer1=", "layer2"], "hint", "cannot read the layers 'layer1='; expected STUDENT=TEACHER"),
        (["layer1", "layer1=layer2"], "hint", "the student's layer layer1 is named twice"),
    ],
)
def test_layers_that_cannot_be_matched(layers: list[str], features: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        tapped(net([8, 8, 16]), net([8, 16, 32]), layers, features, SIZE)


def test_pairs() -> None:
    assert pairs_of(["a=b.0", "c"]) == [("a", "b.0"), ("c", "c")]
