"""Artifacts: files with a manifest beside them that says what they are, what they came from and how.

The manifest is written last: a file without one, or whose hash disagrees with it, is not trusted to be ours, unless a
claim of a killed command states its hash.

Claims: how a file that a killed command put in place is known as ours although its manifest is missing.

An artifact is a file and a manifest, two renames. Before the first a claim beside the output states the hashes of what
is about to come, and the manifest takes it away. A command that finds an output without its manifest, or with that of an
earlier file, compares it with the claim: only what it states byte for byte may be replaced.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

from deploykit.base.atomic import JsonObject, check_parent, write_bytes, write_json
from deploykit.base.command_result import Result
from deploykit.base.errors import BadInput, from_os_error
from deploykit.base.hashing import file_sha256, value_sha256
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.task import Task, read_task

CLAIM_SCHEMA = "deploykit.claim/1"


def claim_path(output: Path) -> Path:
    """``model.pt`` → ``.model.pt.claim.json``."""
    return output.with_name(f".{output.name}.claim.json")


def write_claim(output: Path, files: Mapping[str, str]) -> None:
    """State what is about to come.

    ``output``: the artifact's main file. ``files``: file name (in the folder of ``output``) → sha256.
    """
    write_json(claim_path(output), {"schema": CLAIM_SCHEMA, "files": dict(files)})


def is_claimed(output: Path, before: Mapping[str, str]) -> bool:
    """Whether everything that lies at ``output`` is what a claim states, or what was there before.

    ``output``: the artifact's main file. ``before``: file name → sha256 of the manifest that is there; empty without
    one.
    """
    try:
        fields = json.loads(claim_path(output).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    files = fields.get("files") if isinstance(fields, dict) and fields.get("schema") == CLAIM_SCHEMA else None
    if not isinstance(files, dict) or output.name not in files:
        return False
    there = [output.with_name(name) for name in {*files, *before} if Path(name).name == name]
    return all(file_sha256(one) in (files.get(one.name), before.get(one.name)) for one in there if one.is_file())


def drop_claim(output: Path) -> None:
    """The manifest is in place: the claim goes."""
    claim_path(output).unlink(missing_ok=True)


SCHEMA = "deploykit.manifest/1"


@dataclass(frozen=True)
class Parent:
    """What an artifact was made from.

    ``role``: ``model``, ``data``, ``teacher`` …. ``sha256``: of the parent file, or of the data set. ``path``: of the
    parent relative to the artifact's folder, a hint that may have gone stale; None for data. ``name``: how the user
    named it.
    """

    role: str
    sha256: str
    path: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Manifest:
    """What ``FILE.manifest.json`` holds.

    Attributes:
        kind: ``model``, ``onnx``, ``engine``, ``report`` …
        files: file name (in the artifact's folder) → sha256; external data counts.
        parents: what it was made from.
        stage: name of the stage that made it, and its STAGE_VERSION as ``version``.
        config: the stage's whole frozen configuration.
        preprocessing: as :meth:`Preprocessing.to_dict`, or None where it is not known.
        classes: names in the order of the outputs, or None.
        target: the target it was made for, or None.
        task: what its outputs mean; None: it has none, or the file is from before tasks.
        precision: of the float part, or None.
        versions: name → version of the libraries that shaped it.
        hardware: where it matters (engines), else empty.
        facts: what the stage found out (verified_on, exporter, parity …), JSON-able: the same each time it is made.
        measured: what differs from one making to the next: ``created`` (UTC time in ISO format), ``seconds``, speeds. No
            hash covers it, and no artifact holds it.
    """

    kind: str
    files: dict[str, str]
    stage: str
    version: int
    config: Mapping[str, Any] = field(default_factory=dict)
    parents: tuple[Parent, ...] = ()
    preprocessing: Mapping[str, Any] | None = None
    classes: tuple[str, ...] | None = None
    target: str | None = None
    task: Task | None = None
    precision: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    schema: str = SCHEMA

    @property
    def key(self) -> str:
        """The hash of everything that decides the result: stage, config, parents, versions, hardware."""
        return stage_key(
            self.stage, self.version, self.config, [p.sha256 for p in self.parents], self.versions, self.hardware
        )


@dataclass(frozen=True)
class Made(Result):
    """One artifact, made now or there already.

    ``made``: False where the identical file was there already. ``facts``: what was found out while it was made, as the
    command's own result says. ``measured``: when, how long and how fast, as :attr:`Manifest.measured`.
    """

    output: Path
    made: bool
    facts: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether it may be used: judged ok, accepted as it is, or nothing had to be judged."""
        verdict = self.facts.get("verdict")
        return verdict is None or verdict["status"] == "ok" or verdict["accepted"]

    @property
    def status(self) -> str:
        """``ok``, ``unsure`` or ``failed``; the file is there each time."""
        verdict = self.facts.get("verdict")
        return "ok" if verdict is None else verdict["status"]

    def to_dict(self) -> JsonObject:
        """The object of ``--json``."""
        measured = {name: value for name, value in self.measured.items() if name != "created"}
        return {"output": str(self.output), "made": self.made, **self.facts, **measured}


def stage_key(
    stage: str,
    version: int,
    config: Mapping[str, Any],
    parents: list[str],
    versions: Mapping[str, str] | None = None,
    hardware: Mapping[str, Any] | None = None,
) -> str:
    """The content hash under which a stage's result is kept: the same key means the same result."""
    return value_sha256(
        {
            "stage": stage,
            "version": version,
            "config": dict(config),
            "parents": parents,
            "versions": dict(versions or {}),
            "hardware": dict(hardware or {}),
        }
    )


def manifest_path(path: Path) -> Path:
    """``model.onnx`` → ``model.onnx.manifest.json``."""
    return path.with_name(path.name + ".manifest.json")


def attachments_path(path: Path) -> Path:
    """Where a stage leaves what the report shall show of it: ``model.onnx`` → ``model.onnx.attachments.json``."""
    return path.with_name(path.name + ".attachments.json")


def read_manifest(path: Path) -> Manifest | None:
    """The manifest of the artifact ``path``, or None where it has none.

    Raises:
        BadInput: the manifest is broken, of another schema, or names files outside its folder.
    """
    place = manifest_path(path)
    try:
        fields = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise from_os_error(error, f"cannot read {place}") from error
    except ValueError as error:
        raise BadInput(f"{place} is no JSON: {error}", fix="Delete it, or make the artifact again.") from error
    if not isinstance(fields, dict) or fields.get("schema") != SCHEMA:
        got = fields.get("schema") if isinstance(fields, dict) else type(fields).__name__
        raise BadInput(f"{place} is not a manifest we read", got=got, expected=SCHEMA, fix="Make the artifact again.")
    try:
        fields["parents"] = tuple(Parent(**parent) for parent in fields.get("parents", []))
        if fields.get("classes") is not None:
            fields["classes"] = tuple(str(name) for name in fields["classes"])
        if "created" in fields:  # of a file made before there was ``measured``
            fields["measured"] = {"created": fields.pop("created")}
        manifest = Manifest(**fields)
        if manifest.preprocessing is not None:
            Preprocessing.from_dict(manifest.preprocessing)
        if manifest.task is not None:
            read_task(manifest.task, str(place))
    except (TypeError, AttributeError) as error:
        raise BadInput(f"{place} cannot be read: {error}", fix="Make the artifact again.") from error
    for name in manifest.files:
        if Path(name).name != name or name in ("", ".", ".."):
            raise BadInput(f"{place} names a file outside its folder", got=name, expected="a plain file name")
    return manifest


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write the manifest beside ``path``; call it last, when the artifact's files are in place."""
    from datetime import UTC, datetime

    now = {"created": datetime.now(UTC).isoformat(timespec="seconds")}
    write_json(manifest_path(path), asdict(replace(manifest, measured=now | dict(manifest.measured))))
    drop_claim(path)


def write_model_manifest(
    files: Sequence[Path],
    manifest: Manifest,
    preprocessing: Preprocessing,
    classes: Sequence[str] | None,
    facts: Mapping[str, Any],
    measured: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write the manifest of a model whose ``files`` are in place, itself first; returns it as written.

    ``facts`` and ``measured``: as of :class:`Manifest`. One whose ``manifest`` names no task is a classifier.
    """
    described = replace(
        manifest,
        files=files_of(*files),
        preprocessing=preprocessing.to_dict(),
        classes=None if classes is None else tuple(classes),
        task=manifest.task or "classify",
        facts=facts,
        measured=dict(measured or {}),
    )
    write_manifest(files[0], described)
    return described


def portable_data_name(data: str) -> str:
    """A data name as artifacts state it: of an absolute path only its last part, since artifacts hold no machine's paths.

    ``/srv/pets`` → ``pets``, ``imagenet:/srv/imagenet`` → ``imagenet:imagenet``; names and relative paths stay.
    """
    kind, colon, place = data.partition(":")
    if colon and os.path.isabs(place):
        return f"{kind}:{Path(place).name}"
    return Path(data).name if os.path.isabs(data) else data


def files_of(*paths: Path) -> dict[str, str]:
    """``Manifest.files`` for these files of one folder: name → sha256."""
    return {path.name: file_sha256(path) for path in paths}


class LineageEntry(TypedDict, total=False):
    """What a model file, and an ONNX file made from it, keeps of one stage that the model went through; ``parents``: role,
    sha256 and name of each.
    """

    stage: str
    config: Mapping[str, Any]
    parents: list[dict[str, str | None]]
    result: Mapping[str, Any]


def lineage_entry(manifest: Manifest, result: Mapping[str, Any]) -> LineageEntry:
    """What a model file's lineage says of the stage that made it, with what it found out as ``result``."""
    parents = [{"role": one.role, "sha256": one.sha256, "name": one.name} for one in manifest.parents]
    return {"stage": manifest.stage, "config": manifest.config, "parents": parents, "result": dict(result)}


def is_unmodified(path: Path, manifest: Manifest) -> bool:
    """Whether every file of the artifact is there with the hash that its manifest states."""
    return all(
        (path.parent / name).is_file() and file_sha256(path.parent / name) == digest
        for name, digest in manifest.files.items()
    )


def artifact_sha256(path: Path) -> str:
    """The hash of an artifact as a parent: of its one file, or of all its files where the manifest names several."""
    manifest = read_manifest(path)
    names = sorted(set(manifest.files) | {path.name}) if manifest else [path.name]
    if len(names) == 1:
        return file_sha256(path)
    return value_sha256({name: file_sha256(path.parent / name) for name in names if (path.parent / name).is_file()})


def safe_name(name: str) -> str:
    """A variant's name as a file name: letters, digits, dot, dash, underscore; others and doubtful ones are hashed."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}", name):
        return name
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:40] + "-" + value_sha256(name)[:8]


class ArtifactFile(TypedDict):
    """The ``artifact`` of a report's variant: its path, hash and size."""

    path: str
    sha256: str
    bytes: int


def artifact_of(path: Path, folder: Path | None) -> ArtifactFile:
    """The artifact as a report states it, its path seen from ``folder`` (only its name without one)."""
    manifest = read_manifest(path)
    names = sorted({path.name, *(manifest.files if manifest else ())})
    size = sum((path.parent / name).stat().st_size for name in names if (path.parent / name).is_file())
    shown = path.name if folder is None else Path(os.path.relpath(path, folder)).as_posix()
    return {"path": shown, "sha256": artifact_sha256(path), "bytes": size}


def write_artifact(output: Path, content: bytes, manifest: Manifest) -> Manifest:
    """Write a file and its manifest, which gets the file's hash.

    Returns the manifest as written.
    """
    write_bytes(output, content, claimed(output))
    described = replace(manifest, files=files_of(output))
    write_manifest(output, described)
    return described


def claimed(output: Path) -> Callable[[Path], None]:
    """For :func:`deploykit.base.atomic.atomic_path`: claim the file that is about to become ``output``."""
    return lambda temporary: write_claim(output, {output.name: file_sha256(temporary)})


def refuse_input(output: Path, *inputs: Path) -> None:
    """Refuse an output that is one of the files it is made from.

    Raises:
        BadInput: it is.
    """
    for one in inputs:
        if output.resolve() == one.resolve():
            raise BadInput(f"the output {output} is the input", fix="Name another file with -o.")


def already_made(output: Path, key: str, *, force: bool) -> bool:
    """Decide what may happen to ``output``: True when the identical result is there and nothing is to be done.

    False means "make it": nothing is there, or an unmodified artifact of ours is to be replaced, one that a killed command
    left without its manifest too, or ``force``.

    Raises:
        BadInput: something is there that we did not make, or that was modified since.
    """
    check_parent(output)
    if output.is_dir():
        raise BadInput(f"cannot write {output}: it is a folder", expected="a file name")
    if force or not output.exists():
        return False
    manifest = read_manifest(output)
    whole = manifest is not None and is_unmodified(output, manifest)
    if not whole and is_claimed(output, manifest.files if manifest is not None else {}):
        return False
    if manifest is None:
        raise BadInput(f"{output} exists and was not made by deploykit", fix="Choose another -o, or pass --force.")
    if not whole:
        raise BadInput(f"{output} was modified since deploykit made it", fix="Choose another -o, or pass --force.")
    return manifest.key == key
