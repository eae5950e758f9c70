"""What is known of other people's networks without a download: input size, normalisation, official weight files."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from deploykit.base.checkpoint import Arch
from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import INTERPOLATIONS, Preprocessing
from deploykit.models.sources import AUXILIARY, torchvision_names


def official_weights(sha256: str) -> tuple[str, Any] | None:
    """Name and torchvision's weights entry whose file has this hash (file names end in its first eight digits)."""
    from torchvision import models

    for name in torchvision_names():
        for entry in models.get_model_weights(name):
            found = re.search(r"-([0-9a-f]{8})\.pth$", entry.url)
            if found and sha256.startswith(found.group(1)):
                return name, entry
    return None


def official_arch(name: str, num_classes: int) -> Arch:
    """The architecture of torchvision's own weights; googlenet's and inception's expect the input transformed."""
    kwargs: dict[str, int] = {"num_classes": num_classes}
    if name in AUXILIARY:
        kwargs.update(transform_input=True, aux_logits=True)
    return Arch("torchvision", name, kwargs)


def weights_preprocessing(entry: Any) -> Preprocessing:
    """The evaluation transform of an official weights entry."""
    transform = entry.transforms()
    size, resize = transform.crop_size[0], transform.resize_size[0]
    return Preprocessing(
        (size, size), max(resize, size), transform.interpolation.value, tuple(transform.mean), tuple(transform.std)
    )


def default_preprocessing(arch: Arch, module: nn.Module) -> Preprocessing | None:
    """What the library's own first weights of this architecture were made with: an assumption for other weights.

    None where nothing about the architecture tells it.
    """
    if arch.source == "torchvision":
        from torchvision import models

        if arch.name not in torchvision_names():
            return None
        entries = list(models.get_model_weights(arch.name))
        first = [entry for entry in entries if entry.name == "IMAGENET1K_V1"]
        smallest = min(entries, key=lambda entry: entry.transforms().crop_size[0])
        return weights_preprocessing(first[0] if first else smallest)
    if arch.source == "timm":
        stated = getattr(module, "pretrained_cfg", None) or {}
        try:
            size = (int(stated["input_size"][1]), int(stated["input_size"][2]))
            resize = max(round(min(size) / float(stated.get("crop_pct") or 1)), max(size))
            method = stated.get("interpolation")
            method = method if method in INTERPOLATIONS else "bilinear"
            return Preprocessing(size, resize, method, tuple(stated["mean"]), tuple(stated["std"]))
        except (KeyError, TypeError, ValueError, IndexError, BadInput):
            return None
    if arch.source == "deploykit" and arch.name == "cnn4":
        size = arch.kwargs.get("size", 32)
        return Preprocessing((size, size))
    return None
