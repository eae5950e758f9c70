"""Configuration of one run of a recipe."""

from __future__ import annotations

from deploykit.config.common import Config


class RunConfig(Config):
    """How a recipe is run; what is run stands in the recipe.

    Attributes:
        changes: ``dotted.key=YAML`` values that replace the recipe's (``train.epochs=3``).
        dry_run: only show the plan.
        remeasure: time all variants again although the stored measurement fits.
        wait: wait for another run of the same folder to end, instead of stopping.
        allow_code: ``module:…`` names of the recipe may run.
    """

    changes: tuple[str, ...] = ()
    dry_run: bool = False
    remeasure: bool = False
    wait: bool = True
    allow_code: bool = False
