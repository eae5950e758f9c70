from __future__ import annotations

import pytest
import torch

from deploykit.base.errors import BadInput
from deploykit.exporting.reference import check_inputs, named_outputs, run_once
from tests.exporting.nets import Plain, TwoInputs, TwoOutputs, seeded


def test_one_input_passes_and_two_are_named() -> None:
    check_inputs(seeded(Plain))
    with pytest.raises(BadInput, match="the model takes 2 inputs; got x, mask; expected one tensor of pictures"):
        check_inputs(TwoInputs())


def test_names_of_outputs() -> None:
    x = torch.zeros(1, 3, 4, 4)
    assert list(run_once(seeded(TwoOutputs), x)) == ["out", "aux"]
    assert list(named_outputs(x)) == ["output"]
    assert list(named_outputs((x, x))) == ["output0", "output1"]


@pytest.mark.parametrize("answer", [[{"boxes": torch.zeros(1, 4)}], {"out": [1]}, "text", {}])
def test_answers_that_are_no_tensors_are_refused(answer: object) -> None:
    with pytest.raises(BadInput, match=r"no tensor|answers nothing"):
        named_outputs(answer)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "ssdlite320_mobilenet_v3_large", "fcos_resnet50_fpn"])
def test_single_stage_detectors_are_cut_to_their_heads(name: str) -> None:
    import torchvision

    from deploykit.models.detection import RawHeads, is_single_stage

    detector = getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None).eval()
    assert is_single_stage(detector)
    raw = run_once(RawHeads(detector).eval(), torch.rand(2, 3, 320, 320))
    assert {"cls_logits", "bbox_regression"} <= set(raw)
    assert all(value.shape[0] == 2 for value in raw.values())
