"""Configuration of prediction."""

from __future__ import annotations

from pydantic import Field

from deploykit.config.command import Argument, Command
from deploykit.config.options import AllowCode, Batch, Device, FileFlags, SkipBroken, Threads


class PredictConfig(FileFlags):
    """How pictures are named."""

    top: int = Field(default=5, ge=1, description="Number of classes told for each picture, the most probable first.")
    batch: Batch = 16
    threads: Threads = None
    device: Device = "auto"
    skip_broken: SkipBroken = False
    allow_code: AllowCode = False


COMMAND = Command(
    "Name what pictures show, with any artifact and its own preprocessing.",
    PredictConfig,
    (
        Argument("artifact", "A model or engine: [NAME=]PATH[@TARGET].", metavar="FILE"),
        Argument("images", "Picture files or folders of pictures.", metavar="IMAGE…", many=True),
        Argument("annotate", "Write copies with the label drawn on them.", "--annotate", "DIR"),
    ),
)
