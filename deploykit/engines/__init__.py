"""Engines behind one protocol (:class:`deploykit.base.runner.Runner`): one folder per engine, imported when asked for."""

from deploykit.engines.open import engine_of, lacking, open_runner, resolve

__all__ = ["engine_of", "lacking", "open_runner", "resolve"]
