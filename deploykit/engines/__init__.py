"""Engines behind one protocol (:class:`deploykit.base.runner.Runner`): one folder per engine, imported when asked for."""

from deploykit.engines.choose import BUILT, open_runner, resolve
from deploykit.engines.lacking import lacking

__all__ = ["BUILT", "lacking", "open_runner", "resolve"]
