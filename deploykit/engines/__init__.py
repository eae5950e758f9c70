"""Engines behind one protocol (:class:`deploykit.base.runner.Runner`): one folder per engine, imported when asked for."""

from deploykit.engines.choose import BUILT, open_runner, resolve

__all__ = ["BUILT", "open_runner", "resolve"]
