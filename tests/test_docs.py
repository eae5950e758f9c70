"""The README and the pages of docs/: their commands run, their tables are the measured ones, their links resolve."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
MODELS = DOCS / "models.md"
TABLE = ROOT / "recipes" / "results" / "export_torchvision.md"
MOST_WORDS = 900
TINY = [
    "train.epochs=1",
    "train.threads=1",
    "model.kwargs={depth: 8, widths: [4, 8, 16], stem_stride: 2}",
    "variants={eager: {target: torch-eager}, fp32: {target: ort-cpu}}",
    "benchmark={images: 60, max_time_s: 0.5, min_blocks: 2, block_ms: 5}",
]


def pages() -> list[Path]:
    """The README, then the pages in the order in which it names them; a page that it does not name comes last."""
    named = re.findall(r"\]\((docs/[a-z0-9_]+\.md)", README.read_text(encoding="utf-8"))
    found = [path.relative_to(ROOT).as_posix() for path in sorted(DOCS.glob("*.md"))]
    return [README, *(ROOT / name for name in dict.fromkeys([*named, *found]))]


def blocks(page: Path) -> list[str]:
    return re.findall(r"<!-- test -->\n```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def prose(page: Path) -> str:
    """The text without code, in which alone a link is a link and a # a heading."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", lambda code: re.sub(r"[\[\]()]", "", code[0]), text)


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings: small letters, hyphens for spaces, no other punctuation, numbered when again."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *$", prose(page), re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):  # another site, which no test asks
            continue
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


def test_the_commands_run(tmp_path: Path, deploykit_program: Path) -> None:
    """All marked blocks of all pages, one after the other in one shell; the quickstart with tiny settings."""
    settings = " ".join(f"--set '{one}'" for one in TINY)
    script = "\n".join(f"echo '== {page.name}' >&2\n{block}" for page in pages() for block in blocks(page))
    assert script.count("deploykit ") >= 26
    script = script.replace("deploykit run quickstart", f"deploykit run quickstart {settings}")
    # of one epoch the network is confident of no image: whether int8 keeps its answers cannot be told
    script = script.replace("deploykit quantize model.onnx", "deploykit quantize model.onnx --accept")
    script = f'set -eu\ndeploykit() {{ "{deploykit_program}" "$@"; }}\n{script}'
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing to do: every result of quickstart is there already" in done.stderr
    for name in ("runs/quickstart/report.html", "model.onnx", "measured/report.json", "report.html", "mine.yaml"):
        assert (tmp_path / name).is_file(), name


def test_the_readme_is_one_page() -> None:
    words = len(README.read_text(encoding="utf-8").split())
    assert words <= MOST_WORDS, f"{words} words: what is more than a line and a link belongs into a page of docs/"


def test_the_readme_names_every_page() -> None:
    linked = set(re.findall(r"\]\(docs/([a-z0-9_]+\.md)\)", README.read_text(encoding="utf-8")))
    assert {path.name for path in DOCS.glob("*.md")} == linked


def test_where_things_are_names_every_room() -> None:
    """The rooms before the colon of each line are the folders of the package; what is named behind it is in them."""
    section = README.read_text(encoding="utf-8").partition("## Where things are\n")[2].partition("\n## ")[0]
    package, rooms = ROOT / "deploykit", []
    for line in re.findall(r"^\* (.*)$", section, re.MULTILINE):
        before, _, behind = line.partition(":")
        here = re.findall(r"`([a-z]+)/`", before)
        rooms += here
        for name in re.findall(r"`([a-z_/]+(?:/|\.py))`", behind):
            assert any((place / name).exists() for place in (package, *(package / room for room in here))), name
    assert sorted(rooms) == sorted(path.parent.name for path in package.glob("*/__init__.py"))


def test_every_command_is_in_the_readme() -> None:
    from deploykit.cli.main import COMMANDS

    table = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    named = [name for line in table for name in re.findall(r"`([a-z]+)`", line.split("|")[1])]
    assert sorted(named) == sorted(COMMANDS)


def test_the_commands_of_make_stand_beside_it() -> None:
    text, makefile = README.read_text(encoding="utf-8"), (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "deploykit run recipes/quickstart.yaml" in text
    assert "deploykit run recipes/quickstart.yaml" in makefile
    assert "-m 'not slow and not gpu and not bench'" in text
    assert "-m 'not slow and not gpu and not bench'" in makefile
    said = "\n".join(page.read_text(encoding="utf-8") for page in pages())
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", said, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_links_and_anchors_resolve(page: Path) -> None:
    assert not broken_links(page)


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b`, c\n\n[1](#a-b-c) [2](#other) [3](gone.md) `[4](code.md)` [5](https://example.org)\n\n")
    assert broken_links(page) == ["#other", "gone.md"]
    page.write_text("[1](page.md#twice-1)\n\n## Twice\n\n```sh\n# no-heading\n```\n\n## Twice\n\n[2](#no-heading)\n")
    assert broken_links(page) == ["#no-heading"]


def test_the_export_table_is_the_measured_one(request: pytest.FixtureRequest) -> None:
    text = MODELS.read_text(encoding="utf-8")
    measured = "\n".join(TABLE.read_text(encoding="utf-8").splitlines()[2:]).strip()
    start, end = "<!-- export table -->\n", "<!-- end of export table -->"
    before, _, rest = text.partition(start)
    shown, _, after = rest.partition(end)
    if request.config.getoption("--update-golden"):
        MODELS.write_text(f"{before}{start}{measured}\n{end}{after}", encoding="utf-8")
        shown = measured
    advice = "pytest tests/test_docs.py --update-golden takes the new table over"
    assert models(shown) <= models(measured), advice
    if len(models(measured)) >= all_models():  # a table that is still being measured may be ahead of the page
        assert shown.strip() == measured, advice


def models(table: str) -> set[str]:
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    assert rows, "there is no table"
    return set(rows) - {"Model"}


def all_models() -> int:
    import torchvision

    return len(torchvision.models.list_models(module=torchvision.models))
