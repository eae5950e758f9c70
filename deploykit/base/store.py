"""Results of stages kept under the hash of everything that decides them: committed whole, verified when read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploykit.base.atomic import atomic_folder, write_json
from deploykit.base.errors import BadInput
from deploykit.base.hashing import file_sha256

SCHEMA = "deploykit.store/1"
ENTRY = "entry.json"
MARK = "STORE"
_MARK_TEXT = "deploykit keeps results of stages here; `deploykit cache clean` empties it.\n"


@dataclass(frozen=True)
class Entry:
    """One stored result.

    ``folder``: that holds its files. ``stage``: what made it. ``files``: path relative to the folder → sha256.
    ``facts``: what its stage wants to know again. ``created``: UTC time in ISO format.
    """

    folder: Path
    stage: str
    files: dict[str, str]
    facts: Mapping[str, Any]
    created: str

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


class Store:
    """A folder of results, one subfolder per key.

    ``root``: of the store; made, with its mark, when the first result is kept.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, key: str) -> Entry | None:
        """The result under ``key``, or None where there is none or a file of it is missing or changed."""
        entry = read_entry(self.root / key)
        if entry is None:
            return None
        whole = all(_is_file_with(entry.folder / name, digest) for name, digest in entry.files.items())
        return entry if whole else None

    def keep(
        self, key: str, stage: str, base: Path, files: list[Path], facts: Mapping[str, object] | None = None
    ) -> Entry:
        """Keep ``files`` (below ``base``) under ``key``, replacing a damaged result; hard links where they can be.

        Raises:
            SystemTrouble: the disk is full.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        mark = self.root / MARK
        if not mark.exists():
            mark.write_text(_MARK_TEXT, encoding="utf-8")
        target = self.root / key
        if target.exists():
            shutil.rmtree(target)
        with atomic_folder(target) as folder:
            names = {}
            for file in files:
                name = file.relative_to(base).as_posix()
                link_or_copy(file, folder / name)
                names[name] = file_sha256(folder / name)
            created = datetime.now(UTC).isoformat(timespec="seconds")
            fields = {"schema": SCHEMA, "stage": stage, "files": names, "facts": facts or {}, "created": created}
            write_json(folder / ENTRY, fields)
        return Entry(target, stage, names, facts or {}, created)

    def restore(
        self,
        entry: Entry,
        base: Path,
        *,
        force: bool = False,
        before: Entry | None = None,
        ours: Callable[[Path], bool] = lambda path: False,
    ) -> list[str]:
        """Put an entry's files back below ``base`` and return the names of those that were not there.

        A file that differs is replaced only if it is itself a stored result of this store, or of the entry ``before``
        that this one replaced, or if ``ours`` knows it, or with ``force``.

        Raises:
            BadInput: a file there was changed by someone else.
        """
        missing = []
        for name, digest in entry.files.items():
            place = base / name
            if _is_file_with(place, digest):
                continue
            if place.exists() and not (force or ours(place) or self._is_ours(place, name, before)):
                raise BadInput(f"{place} was modified since deploykit made it", fix="Move it away, or pass --force.")
            missing.append(name)
            link_or_copy(entry.folder / name, place)
        return missing

    def entries(self) -> list[tuple[str, Entry]]:
        """Key and entry of every result, the oldest first."""
        if not self.root.is_dir():
            return []
        found = [(folder.name, entry) for folder in self.root.iterdir() if (entry := read_entry(folder)) is not None]
        return sorted(found, key=lambda pair: pair[1].created)

    def _is_ours(self, place: Path, name: str, before: Entry | None) -> bool:
        known = [entry for _, entry in self.entries()] + ([before] if before else [])
        digest = file_sha256(place)
        return any(entry.files.get(name) == digest for entry in known)


def read_entry(folder: Path) -> Entry | None:
    """The entry of one store folder, or None where it is broken or none of ours; files are not read."""
    try:
        fields = json.loads((folder / ENTRY).read_text(encoding="utf-8"))
        if fields["schema"] != SCHEMA:
            return None
        entry = Entry(folder, fields["stage"], dict(fields["files"]), dict(fields["facts"]), fields["created"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    inside = all(not Path(name).is_absolute() and ".." not in Path(name).parts for name in entry.files)
    return entry if inside else None


def link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` (replaced, its folder made) a hard link of ``source``, or a copy where links cannot be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _is_file_with(path: Path, digest: str) -> bool:
    return path.is_file() and file_sha256(path) == digest
