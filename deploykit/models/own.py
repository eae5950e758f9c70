"""Recognise deploykit's own networks: their families are open, so arguments are read from the shapes."""

from __future__ import annotations

import math

from deploykit.base.checkpoint import Arch
from deploykit.models.fingerprint import Shapes

WIDTHS = (0.25, 0.35, 0.5, 0.75, 1.0, 1.25, 1.4, 1.5, 2.0)


def own_candidates(shapes: Shapes) -> list[Arch]:
    """Every network of deploykit's that may have these tensors; whether they really fit is for the caller to see.

    The stride of the stem leaves no trace in the tensors, so both are candidates.
    """
    if "conv1.weight" in shapes and "layer3.0.conv1.weight" in shapes and "fc.weight" in shapes:
        blocks = len({name.split(".")[1] for name in shapes if name.startswith("layer1.")})
        widths = [
            shapes[f"layer{stage}.0.conv2.weight"][0] for stage in (1, 2, 3) if f"layer{stage}.0.conv2.weight" in shapes
        ]
        if len(widths) != 3:
            return []
        kwargs = {"num_classes": shapes["fc.weight"][0], "depth": 6 * blocks + 2, "widths": widths}
        return [Arch("deploykit", "resnet", {**kwargs, "stem_stride": stride}) for stride in (1, 2)]
    if "features.0.0.weight" in shapes and "classifier.1.weight" in shapes:
        classes = shapes["classifier.1.weight"][0]
        return [
            Arch("deploykit", "mobilenetv2", {"num_classes": classes, "width": width, "stem_stride": stride})
            for width in WIDTHS
            for stride in (1, 2)
        ]
    if "classifier.4.weight" in shapes and "classifier.1.weight" in shapes and "features.9.weight" in shapes:
        size = 16 * math.isqrt(shapes["classifier.1.weight"][1] // shapes["features.9.weight"][0])
        return [Arch("deploykit", "cnn4", {"num_classes": shapes["classifier.4.weight"][0], "size": size})]
    return []
