"""What the module offers that a target names as its builder, and which one that is."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from deploykit.base.artifact import Manifest
from deploykit.base.errors import BadInput
from deploykit.base.progress import Progress
from deploykit.base.targets import WITH_BUILDER, target_of
from deploykit.config.build import BuildConfig


class BuildFile(Protocol):
    """Builds one file of one target."""

    def __call__(
        self, source: Path, target: Path, config: BuildConfig, manifest: Manifest, force: bool, progress: Progress
    ) -> Manifest:
        """Build ``source`` into ``target``; see :class:`Builder`."""


class Builder(Protocol):
    """A module that makes what a target runs of an ``.onnx``."""

    def hardware(self, config: BuildConfig) -> Mapping[str, object]:
        """What of this machine shapes the file; nothing where it holds on any machine."""

    def build_file(
        self, source: Path, target: Path, config: BuildConfig, manifest: Manifest, force: bool, progress: Progress
    ) -> Manifest:
        """Write the file and its manifest.

        ``source``: the ``.onnx``. ``target``: where the file goes. Returns the manifest as written.
        """


def builder_of(target: str) -> Builder:
    """The builder of a target.

    Raises:
        BadInput: there is nothing to build for it.
    """
    row = target_of(target)
    if row.builder is None:
        raise BadInput(f"{target} runs model files as they are", expected="one of " + ", ".join(WITH_BUILDER))
    return cast(Builder, importlib.import_module(row.builder))
