"""The protocol of every command that makes an artifact, and the key by which a result is known again.

suffix → not one of its inputs → nobody else's file → alone with it → manifest → made already? → make and write → result

The manifest's key holds everything that decides the result. A recipe's store keeps results under the same key: what
``planned`` of a command says before the work is what its manifest says after.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit.base.artifact import (
    Manifest,
    Parent,
    already_made,
    artifact_sha256,
    portable_data_name,
    read_manifest,
    refuse_input,
    write_manifest,
)
from deploykit.base.atomic import JsonObject
from deploykit.base.checkpoint import check_file
from deploykit.base.environment import library_versions
from deploykit.base.errors import BadInput
from deploykit.base.lock import alone_with
from deploykit.base.progress import SILENT, Progress
from deploykit.config.common import Config
from deploykit.evaluation.judge import Bars, judged_again, verdict_of

if TYPE_CHECKING:
    from deploykit.data import DataSource

Opener = Callable[[], "DataSource"]
BARS = ("min_agreement", "min_snr_db", "accept")
"""Fields of what is asked of a result: no part of its key, because they change nothing of it."""


@dataclass(frozen=True)
class Stage:
    """What is the same for all artifacts that one command makes.

    Attributes:
        name: of the command.
        version: raised when the same inputs and configuration make another result.
        libraries: whose versions shape the result.
    """

    name: str
    version: int
    libraries: tuple[str, ...]

    def manifest(
        self,
        kind: str,
        config: Mapping[str, object],
        parents: Sequence[Parent],
        *,
        precision: str | None = None,
        target: str | None = None,
        versions: Mapping[str, str] | None = None,
        hardware: Mapping[str, object] | None = None,
    ) -> Manifest:
        """The manifest of an artifact that is about to be made.

        Args:
            kind: ``model``, ``onnx`` or ``engine``.
            config: as :func:`recorded` states it.
            parents: all that it is made from, data too.
            precision: of the float part, where it is known before.
            target: that it is made for, or None.
            versions: of libraries that matter for this configuration only.
            hardware: that shapes the result, where any does.
        """
        return Manifest(
            kind=kind,
            files={},
            stage=self.name,
            version=self.version,
            config=config,
            parents=tuple(parents),
            target=target,
            precision=precision,
            versions=library_versions(self.libraries) | dict(versions or {}),
            hardware=dict(hardware or {}),
        )


@dataclass(frozen=True)
class Planned:
    """An artifact that is about to be made.

    Attributes:
        manifest: without files and facts.
        make: makes and writes it; returns the manifest as written.
        agreed: whether all processes of a training take it as made already; told what this one found.
    """

    manifest: Manifest
    make: Callable[[], Manifest]
    agreed: Callable[[bool], bool] = bool


def make_artifact(
    target: Path, plan: Callable[[], Planned], *, force: bool, progress: Progress, leads: bool = True
) -> tuple[Manifest, bool]:
    """Make ``target`` unless the identical result is there.

    Args:
        target: the artifact, as :func:`output_path` says.
        plan: opens what the key needs; called when nobody else is at work on ``target``.
        force: replace an output that is not ours.
        progress: hears of the waiting.
        leads: this process is the one of a training that writes.

    Returns:
        The manifest of what is there now, and whether it was made now.

    Raises:
        BadInput: the output may not be replaced.
    """
    already_made(target, "", force=force)  # refuses what may not be replaced before any work
    with alone_with(target, progress) if leads else nullcontext():
        planned = plan()
        if planned.agreed(already_made(target, planned.manifest.key, force=force)):
            made = read_manifest(target)
            assert made is not None
            return made, False
        return planned.make(), True


def held_to(target: Path, manifest: Manifest, bars: Bars) -> Manifest:
    """The manifest of ``target`` with its verdict by these bars: what was measured when it was made is judged again.

    So the same answer comes again from a file that was there already, and another one where other bars are named.
    """
    fields = manifest.facts.get("verdict")
    if fields is None:
        return manifest
    verdict = judged_again(verdict_of(fields), bars).to_dict()
    if verdict == verdict_of(fields).to_dict():
        return manifest
    judged = replace(manifest, facts={**manifest.facts, "verdict": verdict})
    write_manifest(target, judged)
    return judged


def output_path(output: Path | str | None, default: Path, suffix: str, *inputs: Path) -> Path:
    """Where the artifact goes.

    Raises:
        BadInput: another suffix, or one of the inputs.
    """
    target = default if output is None else Path(output)
    if target.suffix != suffix:
        raise BadInput("the output's name", got=target.name, expected=f"a name that ends with {suffix}")
    refuse_input(target, *inputs)
    return target


def recorded(config: Config, *without: str, **instead: Any) -> JsonObject:
    """A configuration as artifacts state it: data by a portable name, without what changes no result.

    Args:
        config: of the stage.
        without: fields that change no result.
        instead: fields stated otherwise: files by their names, since artifacts hold no paths.
    """
    fields = {key: value for key, value in config.plain().items() if key not in without}
    if isinstance(fields.get("data"), str):
        fields["data"] = portable_data_name(fields["data"])
    return {**fields, **instead}


def file_parent(source: Path, target: Path, role: str = "model") -> Parent:
    """The file ``source`` as a parent of ``target``.

    Raises:
        BadInput: it is not there or is empty.
    """
    source = check_file(source)
    return Parent(role, artifact_sha256(source), os.path.relpath(source, target.parent), source.stem)


def data_parents(name: str, source: DataSource, *splits: str) -> list[Parent]:
    """Splits of the data called ``name`` as parents."""
    shown = portable_data_name(name)
    return [Parent("data", source.split(split).sha256, name=f"{shown} ({split})") for split in splits]  # type: ignore[arg-type]


def opener(name: str | None, *, allow_code: bool, skip_broken: bool = False, progress: Progress = SILENT) -> Opener:
    """Opens data when first asked for, once.

    Args:
        name: a data name; only called where there is one.
        allow_code: ``module:function`` may run.
        skip_broken: leave out pictures that cannot be read.
        progress: told how the data were split.
    """

    @cache
    def opened() -> DataSource:
        from deploykit.data import open_data

        assert name is not None
        return open_data(name, allow_code=allow_code, skip_broken=skip_broken, progress=progress)

    return opened
