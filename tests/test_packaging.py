"""The built wheel holds all that deploykit reads at run time, and works where the repository is not."""

from __future__ import annotations

import posixpath
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git tracks or could track, so that nothing else can slip in."""
    work = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (work / "src" / name).parent.mkdir(parents=True, exist_ok=True)
            (work / "src" / name).write_bytes((ROOT / name).read_bytes())
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", build, str(work)], cwd=work / "src", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    [path] = work.glob("*.whl")
    return path


def test_the_wheel_holds_modules_recipes_schema_and_templates(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "deploykit").rglob("*")
        if path.is_file() and path.suffix in (".py", ".pyi", ".json", ".gz", ".html", ".css", ".js", ".j2", ".md", ".typed")
        and "__pycache__" not in path.parts
    }  # fmt: skip
    assert not sources - names
    assert "deploykit/recipes/quickstart.yaml" in names
    assert "deploykit/reporting/report.schema.json" in names
    assert "deploykit/py.typed" in names
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
    foreign = [name for name in names if not name.startswith(("deploykit/", "deploykit-"))]
    assert not foreign
    assert not [name for name in names if name.endswith((".pt", ".onnx")) or "__pycache__" in name]


def test_the_wheel_holds_the_pages_and_what_they_link(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    pages = {name for name in archive.namelist() if re.fullmatch(r"deploykit/docs/\w+\.md", name)}
    assert {Path(name).name for name in pages} == {path.name for path in (ROOT / "docs").glob("*.md")}
    assert len(pages) >= 8
    links = 0
    for name in pages:
        for place in re.findall(r"\]\(([^)#:\s]+)", archive.read(name).decode("utf-8")):
            links += 1
            assert posixpath.normpath(f"deploykit/docs/{place}") in archive.namelist(), f"{name}: {place}"
    assert links >= 20


def test_the_readme_is_the_description_of_the_package(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    _, _, description = archive.read(name).decode("utf-8").partition("\n\n")
    assert description.strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()


def test_the_unpacked_wheel_works_elsewhere(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    program = f"""
import sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path = [{str(tmp_path / "site")!r}] + [place for place in sys.path if place != {str(ROOT)!r}]
import deploykit
assert deploykit.__file__.startswith({str(tmp_path)!r}), deploykit.__file__
from deploykit.reporting.schema import SCHEMA_FILE
assert SCHEMA_FILE.is_file()
from importlib.resources import files
assert (files("deploykit.docs") / "int8.md").is_file()
from deploykit.cli.main import app
app(["run", "quickstart", "--dry-run"])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"model\.train +to do", done.stdout)


def test_the_editable_install_finds_the_recipes_too() -> None:
    from deploykit.pipeline.find_recipe import shipped_recipes

    assert shipped_recipes()["quickstart"].read_bytes() == (ROOT / "recipes" / "quickstart.yaml").read_bytes()
