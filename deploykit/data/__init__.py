"""Pictures and labels: every ``--data`` form, splits, reading, preprocessing. Imports no torch."""

from deploykit.data.classes import map_classes
from deploykit.data.opening import open_data
from deploykit.data.preparing import prepare
from deploykit.data.reading import read_image
from deploykit.data.source import DataSource, Split
from deploykit.data.textures import synthetic_images

__all__ = ["DataSource", "Split", "map_classes", "open_data", "prepare", "read_image", "synthetic_images"]
