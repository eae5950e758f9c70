"""The other side of a comparison: a run folder, an archive of one (unpacked safely), or a git revision."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO

from deploykit.base.errors import AnswerNo, BadInput, Unavailable, from_os_error
from deploykit.base.progress import SILENT, Progress
from deploykit.base.spec import Spec
from deploykit.benchmarking.run_folder import is_run, specs_of_run
from deploykit.reporting.schema import OTHER_SIDE

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
MOST_BYTES = 16 << 30
MOST_FILES = 100_000


def is_bundle(path: Path) -> bool:
    """Whether the file's name is that of a bundle."""
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def unpack(path: Path, folder: Path) -> Path:
    """Unpack a bundle into ``folder`` and return where its ``report.json`` lies: at its top, or in its only folder.

    Raises:
        BadInput: no bundle we can read, paths that leave the folder, links, devices, too much, or no report in it.
        SystemTrouble: the disk is full.
    """
    try:
        members = _zip(path) if path.name.lower().endswith(".zip") else _tar(path)
        left, count = MOST_BYTES, 0
        for name, size, content in members:
            left, count = left - size, count + 1
            if left < 0 or count > MOST_FILES:
                raise BadInput(f"{path} is too large to unpack", expected=f"at most {MOST_BYTES >> 30} GiB")
            place = folder / _inside(name, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                shutil.copyfileobj(content, file)
    except OSError as error:
        raise from_os_error(error, f"cannot unpack {path}") from error
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadInput(f"{path} cannot be unpacked: {error}", expected="a zip or tar of a run folder") from error
    tops = [folder, *(one for one in sorted(folder.iterdir()) if one.is_dir())]
    runs = [one for one in tops if (one / "report.json").is_file()]
    if not runs:
        raise BadInput(f"{path} holds no run folder", expected="report.json at its top or in its only folder")
    return runs[0]


def _inside(name: str, path: Path) -> PurePosixPath:
    inner = PurePosixPath(name)
    if inner.is_absolute() or ".." in inner.parts or "\\" in name or ":" in name or not inner.parts:
        raise BadInput(f"{path} holds a path that leaves it", got=repr(name[:100]), fix="Do not trust this bundle.")
    return inner


def _zip(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(path) as bundle:
        for one in bundle.infolist():
            if stat.S_ISLNK(one.external_attr >> 16):
                raise _link(path, one.filename)
            if not one.is_dir():
                with bundle.open(one) as content:
                    yield one.filename, one.file_size, content


def _tar(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(path) as bundle:
        for one in bundle:
            if one.isdir():
                continue
            content = bundle.extractfile(one) if one.isreg() else None
            if content is None:
                raise _link(path, one.name)
            with content:
                yield one.name, one.size, content


def _link(path: Path, name: str) -> BadInput:
    return BadInput(f"{path} holds a link or a device", got=repr(name[:100]), expected="plain files and folders")


RECIPES = (".yaml", ".yml")
_SHORT = ("--set", "benchmark.max_time_s=1", "--set", "benchmark.min_blocks=2")
"""A rebuilt run need not measure for long: it is measured here once more, beside the candidates."""


@dataclass(frozen=True)
class Other:
    """What is compared with.

    Attributes:
        name: as the user named it; of a path only its last part.
        specs: of its variants, called ``NAME@base``.
    """

    name: str
    specs: tuple[Spec, ...]


@contextmanager
def other_side(
    ref: str, names: Sequence[str], run: Path | None, *, allow_code: bool = False, progress: Progress = SILENT
) -> Iterator[Other]:
    """Find the variants of ``ref`` that are called like the candidates; what was fetched is removed afterwards.

    Args:
        ref: a run folder, a ``.zip`` or ``.tar`` of one, ``REVISION`` (the candidates' run folder as it is there), or
            ``REVISION:PATH`` with the path of a run folder, a bundle, or a recipe that is run to rebuild it.
        names: of the candidates.
        run: the candidates' run folder, or None.
        allow_code: a recipe may run the Python code that it names.
        progress: says what is fetched or rebuilt.

    Raises:
        BadInput: there is no such thing, or it has no variant of these names.
        AnswerNo: the recipe could not be rebuilt.
        Unavailable: git is not installed.
    """
    place = Path(tempfile.mkdtemp(prefix="deploykit-against-"))
    try:
        path = Path(ref)
        if is_run(path):
            found = specs_of_run(path)
        elif path.is_dir():
            raise BadInput(f"{ref} is no run folder: it holds no report.json", fix="Benchmark into it first: -o.")
        elif is_bundle(path):
            found = specs_of_run(unpack(path, place), inside=place)
        else:
            found = _of_revision(ref, run, place, allow_code, progress)
        same = [spec for spec in found if spec.name in names]
        if not same:
            raise BadInput(
                f"{ref} has no variant of the same name",
                got=", ".join(spec.name for spec in found),
                expected="one of " + ", ".join(names),
                fix="Name the candidates alike: NAME=PATH.",
            )
        if missing := [name for name in names if name not in {spec.name for spec in same}]:
            progress.say(f"{ref} has no {', '.join(missing)}: measured without a counterpart")
        shown = path.name if path.exists() else ref
        yield Other(shown, tuple(replace(spec, name=spec.name + OTHER_SIDE) for spec in same))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _of_revision(ref: str, run: Path | None, place: Path, allow_code: bool, progress: Progress) -> list[Spec]:
    revision, colon, inner = ref.partition(":")
    top = Path(_git(Path.cwd(), "rev-parse", "--show-toplevel", ref=ref).strip())
    commit = _git(
        top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", ref=ref
    ).strip()
    if not colon:
        if run is None or not run.resolve().is_relative_to(top):
            raise BadInput(
                f"{ref} is a revision, but nothing says which run folder in it",
                fix=f"Name it: --against {ref}:PATH, a run folder, a bundle or a recipe.",
            )
        inner = run.resolve().relative_to(top).as_posix()
    kind = _kind(top, commit, inner, ref)
    progress.say(f"{ref}: fetching {inner} of {commit[:12]}")
    tree = place / "tree"
    packed = place / "tree.tar"
    _git(top, "archive", "--format=tar", f"--output={packed}", commit, ref=ref)
    tree.mkdir()
    _untar(packed, tree)
    target = tree / inner
    if kind == "tree":
        return specs_of_run(target, inside=tree)
    if target.suffix.lower() in RECIPES:
        return specs_of_run(_rebuilt(target, tree, place / "run", allow_code, progress), inside=place)
    if is_bundle(target):
        return specs_of_run(unpack(target, place / "bundle"), inside=place)
    raise BadInput(f"{ref} is neither a run folder nor a bundle nor a recipe", got=target.name)


def _untar(packed: Path, tree: Path) -> None:
    with tarfile.open(packed) as archive:
        archive.extractall(tree, filter="data")
    packed.unlink()


def _kind(top: Path, commit: str, inner: str, ref: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(top), "cat-file", "-t", f"{commit}:{inner}"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BadInput(
            f"{inner} is not in {ref.partition(':')[0]}",
            fix="If run folders are not committed, name the recipe to rebuild it: --against REVISION:recipe.yaml.",
        )
    return done.stdout.strip()


def _git(folder: Path, *words: str, ref: str) -> str:
    if shutil.which("git") is None:
        raise Unavailable(f"{ref} is no file or folder, and git is not installed", fix="Install git.")
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        why = " ".join(done.stderr.split())[:200] or "no such revision"
        raise BadInput(
            f"--against {ref}: no run folder, no bundle, and no revision of this repository ({why})",
            expected="a run folder, a .zip or .tar of one, REVISION or REVISION:PATH",
        )
    return done.stdout


def _rebuilt(recipe: Path, tree: Path, folder: Path, allow_code: bool, progress: Progress) -> Path:
    """Run the recipe as it was, in the tree as it was, with this deploykit."""
    progress.say(f"rebuilding {recipe.relative_to(tree)}: this takes as long as the recipe does")
    command = [
        sys.executable,
        "-P",
        "-m",
        "deploykit.cli.main",
        "run",
        str(recipe.relative_to(tree)),
        "-o",
        str(folder),
    ]
    command += [*_SHORT, "--quiet", *(["--allow-code"] if allow_code else [])]
    done = subprocess.run(command, cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if not (folder / "report.json").is_file():
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise AnswerNo(
            f"the recipe {recipe.relative_to(tree)} of that revision could not be rebuilt (exit {done.returncode}): "
            + (said[-1] if said else "it said nothing")
        )
    return folder
