"""Configuration of the pages of a report."""

from __future__ import annotations

from pydantic import Field

from deploykit.config.command import Argument, Command, output
from deploykit.config.common import Config


class ReportConfig(Config):
    """What is shown."""

    layers: bool = Field(
        default=False,
        description="Profile the engines here, layer by layer: of one run its variants, of two before and after.",
    )


COMMAND = Command(
    "Write report.html and report.md again from a report.json; of several reports a comparison over time and machines.",
    ReportConfig,
    (
        Argument("source", "One report, or several to compare.", metavar="RUN_FOLDER|REPORT.json…", many=True),
        output("Folder of the pages; default: beside the one report."),
    ),
)
