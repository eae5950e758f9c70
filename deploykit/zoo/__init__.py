"""Networks: built by name, recognised from their tensors, loaded from and saved to files.

Importing this package imports torch; import it inside functions.
"""

from deploykit.base.checkpoint import Arch
from deploykit.zoo.builder import architectures, build
from deploykit.zoo.classifier import check_classifier
from deploykit.zoo.counting import Counts, count
from deploykit.zoo.heads import head_of, replace_head
from deploykit.zoo.loading import LoadedModel, load_model
from deploykit.zoo.names import arch_text, parse_arch
from deploykit.zoo.reshaping import reshape, shape_changes
from deploykit.zoo.saving import save_model

__all__ = [
    "Arch",
    "Counts",
    "LoadedModel",
    "arch_text",
    "architectures",
    "build",
    "check_classifier",
    "count",
    "head_of",
    "load_model",
    "parse_arch",
    "replace_head",
    "reshape",
    "save_model",
    "shape_changes",
]
