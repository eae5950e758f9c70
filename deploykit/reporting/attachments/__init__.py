"""What a stage wants to show in the report: tables, curves, bars, a sensitivity analysis, as checked data."""

from deploykit.reporting.attachments.cell_table import table
from deploykit.reporting.attachments.grouped_bars import bars
from deploykit.reporting.attachments.kinds import Attachment
from deploykit.reporting.attachments.line_series import series
from deploykit.reporting.attachments.sensitivity_analysis import sensitivity

__all__ = ["Attachment", "bars", "sensitivity", "series", "table"]
