"""The versioned report: its schema, what it concludes, and its three forms (JSON, Markdown, HTML)."""

from deploykit.reporting.pick import pareto, pick, primary, primary_measurement, settle, why_no_pick
from deploykit.reporting.read import read_report, validate
from deploykit.reporting.schema import SCHEMA
from deploykit.reporting.write import write_report

__all__ = [
    "SCHEMA",
    "pareto",
    "pick",
    "primary",
    "primary_measurement",
    "read_report",
    "settle",
    "validate",
    "why_no_pick",
    "write_report",
]
