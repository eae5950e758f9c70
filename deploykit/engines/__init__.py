"""Engines behind one protocol (:class:`deploykit.base.runner.Runner`): one folder per engine, imported when asked for."""

from deploykit.engines.open import BUILT, lacking, open_runner, resolve

__all__ = ["BUILT", "lacking", "open_runner", "resolve"]
