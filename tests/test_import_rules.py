"""The architecture, held over the syntax trees: who may import whom, and what may be imported at the top of a file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import deploykit

ROOT = Path(deploykit.__file__).parent
# From the ground up; a room imports lower rooms only. What is not there yet (tasks, insight, bundling, search) has its place.
STACK = (
    "_version",
    "base",
    "config",
    "stats",
    "reporting",
    "data",
    "tasks",
    "models",
    "engines",
    "latency",
    "evaluation",
    "exporting",
    "training",
    "distillation",
    "pruning",
    "quantization",
    "building",
    "benchmarking",
    "gating",
    "insight",
    "bundling",
    "commands",
    "pipeline",
    "search",
    "cli",
)
LEVEL = {room: level for level, room in enumerate(STACK)}
WITHOUT_TORCH = {"stats", "reporting", "tasks", "evaluation", "latency", "gating", "benchmarking", "data"}
TORCH = {"torch", "torchvision", "lightning_fabric", "timm", "torchmetrics"}
HEAVY = TORCH | {"onnx", "onnxscript", "onnxruntime", "numpy", "scipy", "pydantic", "sklearn", "PIL", "yaml", "jinja2"}
CLI_TOP = {"typer", "rich"}
MOST_LINES = 400

FILES = sorted(ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[0].removesuffix(".py")


@cache
def imports(path: Path) -> tuple[tuple[str, int, bool, bool], ...]:
    """Module, line, whether it is imported when the file is, and whether it is a relative import."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[tuple[str, int, bool, bool]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inside |= {id(below) for below in ast.walk(node)}
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            inside |= {id(below) for one in node.body for below in ast.walk(one)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) not in inside, False
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield module, node.lineno, id(node) not in inside, node.level > 0
            if module in ("deploykit", "deploykit.base"):
                for alias in node.names:
                    yield f"{module}.{alias.name}", node.lineno, id(node) not in inside, node.level > 0


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT.parent)}:{line}"


def annotation_only(path: Path) -> set[int]:
    """Lines inside ``if TYPE_CHECKING:``, which never run."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            lines |= {below.lineno for one in node.body for below in ast.walk(one) if hasattr(below, "lineno")}
    return lines


def test_there_are_files_to_check() -> None:
    assert len(FILES) > 50
    unknown = {room_of(path) for path in FILES} - set(LEVEL) - {"__init__"}
    assert not unknown, f"a room that no rule knows: {unknown}"


def test_imports_point_downwards() -> None:
    wrong = []
    for path in FILES:
        room = room_of(path)
        if room == "__init__":
            continue
        for module, line, _, _ in imports(path):
            parts = module.split(".")
            if parts[0] != "deploykit" or len(parts) < 2 or parts[1] == room or parts[1] not in LEVEL:
                continue
            other = parts[1]
            if LEVEL[other] > LEVEL[room]:
                wrong.append(f"{place(path, line)}: {room} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_no_relative_imports() -> None:
    wrong = [place(path, line) for path in FILES for _, line, _, relative in imports(path) if relative]
    assert not wrong, "\n".join(wrong)


def test_rooms_without_torch_import_none_at_any_level() -> None:
    wrong = []
    for path in FILES:
        if room_of(path) in WITHOUT_TORCH:
            typed = annotation_only(path)
            for module, line, _, _ in imports(path):
                if module.split(".")[0] in TORCH and line not in typed:
                    wrong.append(f"{place(path, line)}: {module}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("libraries", "home"),
    [({"tensorrt", "tensorrt_rtx"}, "engines/tensorrt"), ({"typer", "rich", "click"}, "cli")],
)
def test_libraries_with_one_home(libraries: set[str], home: str) -> None:
    wrong = []
    for path in FILES:
        if path.relative_to(ROOT).as_posix().startswith(home):
            continue
        wrong += [
            f"{place(path, line)}: {module}"
            for module, line, _, _ in imports(path)
            if module.split(".")[0] in libraries
        ]
    assert not wrong, "\n".join(wrong)


def test_cli_files_are_thin_at_the_top() -> None:
    import sys

    wrong = []
    for path in FILES:
        if room_of(path) != "cli" or path.name in ("generate.py", "stub.py"):  # what developers run
            continue
        for module, line, at_top, _ in imports(path):
            top = module.split(".")[0]
            light = top in sys.stdlib_module_names or module == "typer" or module.startswith("typer.")
            own = module.startswith(
                ("deploykit.cli", "deploykit._version", "deploykit.base.errors", "deploykit.base.progress")
            ) or module in ("deploykit", "deploykit.base")
            if at_top and not (light or own):
                wrong.append(f"{place(path, line)}: {module}")
    assert not wrong, "\n".join(wrong)


def test_what_cli_imports_at_the_top_is_light_itself() -> None:
    wrong = []
    for name in ("base/errors.py", "base/progress.py", "base/__init__.py", "_version.py", "__init__.py"):
        path = ROOT / name
        wrong += [
            f"{place(path, line)}: {module}"
            for module, line, at_top, _ in imports(path)
            if at_top and module.split(".")[0] in HEAVY
        ]
    assert not wrong, "\n".join(wrong)


def test_commands_and_pipeline_import_heavy_libraries_only_inside_functions() -> None:
    """``numpy`` and pydantic are what a command cannot do without; torch and onnx are for the work itself."""
    wrong = []
    for path in FILES:
        if room_of(path) in ("commands", "pipeline", "base", "config"):
            wrong += [
                f"{place(path, line)}: {module}"
                for module, line, at_top, _ in imports(path)
                if at_top and module.split(".")[0] in TORCH | {"onnx", "onnxscript", "onnxruntime"}
            ]
    assert not wrong, "\n".join(wrong)


def test_modules_are_small() -> None:
    wrong = [
        f"{path.relative_to(ROOT.parent)}: {lines} lines"
        for path in FILES
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    ]
    assert not wrong, "\n".join(wrong)


SMALL = 60
COMMON_NAMES = {"__init__", "runner", "audit", "profile", "build"}
FREE_ROOMS = ("config/", "commands/", "cli/")

# The lists below may only shrink: a place that is mended leaves its list, and none is added.
ONE_IMPORTER: set[str] = set()
SAME_NAME: set[str] = set()
TARGET_LITERALS: set[str] = set()
ASKED_OF_A_RUNNER: set[str] = set()


def module_of(path: Path) -> str:
    return ".".join(("deploykit", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


@cache
def modules() -> dict[str, Path]:
    return {module_of(path): path for path in FILES}


@cache
def graph() -> dict[str, frozenset[str]]:
    """Module → the modules of deploykit that it names in an import, wherever that stands."""
    known = modules()
    edges = {}
    for name, path in known.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                below = {f"{node.module}.{alias.name}" for alias in node.names}
                exported = {one for one in below if one not in known or _exports(node.module, one)}
                found |= below - exported | ({node.module} if exported else set())
        edges[name] = frozenset(one for one in found if one in known and one != name)
    return edges


@cache
def _names_of_package(package: str) -> frozenset[str]:
    tree = ast.parse(modules()[package].read_text(encoding="utf-8"))
    return frozenset(alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names)


def _exports(package: str, name: str) -> bool:
    return package in modules() and package != "deploykit" and name.rsplit(".", 1)[1] in _names_of_package(package)


def circles() -> list[list[str]]:
    """The strongly connected groups of modules, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph()[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = []
            while True:
                group.append(stack.pop())
                if group[-1] == name:
                    break
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(graph()):
        if name not in index:
            visit(name)
    return found


def test_no_circles_of_modules() -> None:
    assert not circles(), "\n".join(" - ".join(group) for group in circles())


def _compared(found: set[str], allowed: set[str]) -> None:
    new, gone = sorted(found - allowed), sorted(allowed - found)
    assert not new, "new, and not wanted:\n" + "\n".join(new)
    assert not gone, "no longer so, take them off the list:\n" + "\n".join(gone)


def of_registries() -> set[str]:
    """Modules that a line of ``config/registries.py`` names."""
    from deploykit.base.registry import Registry
    from deploykit.config import registries

    tables = [one for one in vars(registries).values() if isinstance(one, Registry)]
    return {entry.place.partition(":")[0] for table in tables for entry in table.values()}


def test_small_modules_have_more_than_one_importer() -> None:
    """A module under 60 lines that one other module uses is a part of that one, unless it is one of many in a registry."""
    importers: dict[str, set[str]] = {name: set() for name in modules()}
    for name, others in graph().items():
        for other in others:
            importers[other].add(name)
    found = {
        name
        for name, path in modules().items()
        if path.name != "__init__.py"
        and room_of(path) not in ("cli", "commands", "config", "_version")
        and len(importers[name]) == 1
        and name not in of_registries()
        and len(path.read_text(encoding="utf-8").splitlines()) < SMALL
    }
    _compared(found, ONE_IMPORTER)


def test_a_file_name_stands_for_one_idea() -> None:
    by_name: dict[str, list[str]] = {}
    for path in FILES:
        if not path.relative_to(ROOT).as_posix().startswith(FREE_ROOMS) and path.stem not in COMMON_NAMES:
            by_name.setdefault(path.stem, []).append(path.relative_to(ROOT).as_posix())
    _compared({place for places in by_name.values() if len(places) > 1 for place in places}, SAME_NAME)


# Where a word that a target is called too names an installed distribution.
DISTRIBUTIONS = {"base/environment.py": {"tensorrt", "openvino"}}


def test_names_of_targets_stand_in_one_table() -> None:
    """A text that is a target's name, and a message that has one with a hyphen in it, take it from base/targets.py."""
    from deploykit.base.targets import TARGETS

    within = re.compile(r"(?<![\w-])(" + "|".join(name for name in TARGETS if "-" in name) + r")(?![\w-])")
    found = set()
    for path in FILES:
        if (place := path.relative_to(ROOT).as_posix()) == "base/targets.py":
            continue
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                named = node.value in TARGETS and node.value not in DISTRIBUTIONS.get(place, set())
                if named or within.search(node.value):
                    found.add(place)
    _compared(found, TARGET_LITERALS)


_RUNNERS = re.compile(r"(^|[._])(runner|reference|candidate)s?$")


def test_a_runner_is_asked_by_its_protocols() -> None:
    """What a runner can do is declared in base/runner.py; nobody looks for attributes or silences the types."""
    found = set()
    for path in FILES:
        content, place = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
        silenced = (line for line in content.splitlines() if "type: ignore" in line)
        if any(re.search("runner|reference|candidate", line) for line in silenced):
            found.add(place)
        for node in ast.walk(ast.parse(content)):
            asked = isinstance(node, ast.Call) and ast.unparse(node.func) in ("hasattr", "getattr", "setattr")
            if asked and _RUNNERS.search(ast.unparse(node.args[0])):
                found.add(place)
            told = node.annotation if isinstance(node, ast.arg) and _RUNNERS.search(node.arg) else None
            if told is not None and ast.unparse(told) == "Any":
                found.add(place)
    _compared(found, ASKED_OF_A_RUNNER)


def test_no_leftover_marks() -> None:
    words = ("TO" + "DO", "FIX" + "ME")
    wrong = [
        f"{path.relative_to(ROOT.parent)}: {word}"
        for path in FILES
        for word in words
        if word in path.read_text(encoding="utf-8")
    ]
    assert not wrong, "\n".join(wrong)
