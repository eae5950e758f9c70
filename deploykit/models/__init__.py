"""Networks: built by name, recognised from their tensors, loaded from and saved to files.

Importing this package imports torch; import it inside functions.
"""

from deploykit.base.checkpoint import Arch
from deploykit.models.build import arch_text, architectures, build, parse_arch
from deploykit.models.heads import check_classifier, head_of, replace_head
from deploykit.models.load import LoadedModel, RunsModel, load_model
from deploykit.models.macs import Counts, count
from deploykit.models.reshape import reshape, shape_changes
from deploykit.models.save import save_model

__all__ = [
    "Arch",
    "Counts",
    "LoadedModel",
    "RunsModel",
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
