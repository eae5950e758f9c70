"""Single-stage detectors of torchvision: backbone and head alone, since decoding and NMS do not export."""

from __future__ import annotations

from torch import Tensor, nn


class RawHeads(nn.Module):
    """``[N, 3, H, W]`` → the head's raw outputs (``cls_logits`` ``[N, A, C]``, ``bbox_regression`` ``[N, A, 4]`` …)."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.backbone: nn.Module = detector.get_submodule("backbone")
        self.head: nn.Module = detector.get_submodule("head")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Run backbone and head; resizing, anchors, decoding and NMS stay outside."""
        features = self.backbone(x)
        return self.head(list(features.values()) if isinstance(features, dict) else [features])


def is_single_stage(module: nn.Module) -> bool:
    """Whether ``module`` is one of torchvision's RetinaNet, FCOS or SSD."""
    return type(module).__module__.startswith("torchvision.models.detection.") and all(
        isinstance(getattr(module, part, None), nn.Module) for part in ("backbone", "head", "anchor_generator")
    )
