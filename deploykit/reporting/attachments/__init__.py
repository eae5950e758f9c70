"""What a stage wants to show in the report: tables, curves, bars, a sensitivity analysis, as checked data."""

from deploykit.reporting.attachments.kinds import Attachment, bars, sensitivity, series, table

__all__ = ["Attachment", "bars", "sensitivity", "series", "table"]
