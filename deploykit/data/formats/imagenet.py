"""ImageNet, sorted into class folders."""

from __future__ import annotations

from deploykit.base.errors import BadInput
from deploykit.data.formats.folders import source_of, subfolders
from deploykit.data.forms import Asked
from deploykit.data.source import DataSource


def open_imagenet(asked: Asked) -> DataSource:
    """ImageNet as ``ROOT/train/CLASS/*.JPEG`` and ``ROOT/val/CLASS/*.JPEG``; without ``train`` it can be evaluated on.

    Raises:
        BadInput: no ``val`` folder, or one whose pictures are not sorted into class folders.
    """
    root = asked.path
    val = root / "val"
    if not val.is_dir():
        raise BadInput(f"imagenet: {val} does not exist", expected=f"{root}/train and {root}/val with class folders")
    if not subfolders(val):
        raise BadInput(
            f"imagenet: the pictures in {val} are not sorted into class folders",
            expected=f"{val}/n01440764/ILSVRC2012_val_00000293.JPEG …",
            fix="Sort them once: python -c \"from torchvision.datasets import ImageNet; ImageNet('ROOT', 'val')\" "
            "does it from ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz in ROOT.",
        )
    places = {"train": root / "train", "test": val} if (root / "train").is_dir() else {"test": val}
    return source_of(asked, places, published=True, natural=False)
