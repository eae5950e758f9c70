"""Pictures and labels: every ``--data`` form, splits, reading, preprocessing. Imports no torch."""

from deploykit.data.classes import map_classes
from deploykit.data.forms import open_data
from deploykit.data.images import read_image, synthetic_images
from deploykit.data.preprocess import prepare
from deploykit.data.source import DataSource, Split

__all__ = ["DataSource", "Split", "map_classes", "open_data", "prepare", "read_image", "synthetic_images"]
