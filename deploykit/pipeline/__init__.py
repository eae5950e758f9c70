"""A recipe → a graph of stages → report. Stages are pure; what was done already is taken from the run's store."""

from deploykit.pipeline.execute import RunResult, run

__all__ = ["RunResult", "run"]
