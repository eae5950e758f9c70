"""The architecture, held over the syntax trees: who may import whom, and what may be imported at the top of a file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import deploykit

ROOT = Path(deploykit.__file__).parent
MIDDLE = {
    "pruning",
    "distillation",
    "quantization",
    "exporting",
    "engines",
    "evaluation",
    "benchmarking",
    "reporting",
    "gating",
}
LOWER = {"training", "zoo", "data", "stats"}
LEVEL = {
    "cli": 6,
    "pipeline": 5,
    "commands": 4,
    **dict.fromkeys(MIDDLE, 3),
    **dict.fromkeys(LOWER, 2),
    "base": 1,
    "_version": 0,
}
WITHOUT_TORCH = {"stats", "evaluation", "reporting", "gating", "benchmarking", "data"}
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
            allowed = LEVEL[other] < LEVEL[room] or (room == "training" and other in ("zoo", "data"))
            if not allowed:
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
        if room_of(path) != "cli":
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
        if room_of(path) in ("commands", "pipeline", "base"):
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


def test_no_leftover_marks() -> None:
    words = ("TO" + "DO", "FIX" + "ME")
    wrong = [
        f"{path.relative_to(ROOT.parent)}: {word}"
        for path in FILES
        for word in words
        if word in path.read_text(encoding="utf-8")
    ]
    assert not wrong, "\n".join(wrong)
