"""The command line answers at once: what it imports, and how wrong words end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from deploykit._version import __version__

NEVER = ("torch", "onnx", "onnxruntime", "numpy", "pydantic", "scipy", "yaml", "rich")


def deploykit(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "deploykit.cli.main", *words], capture_output=True, text=True)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["exprot"]])
def test_help_and_wrong_commands_import_nothing_heavy(words: list[str]) -> None:
    program = f"""
import sys
from deploykit.cli.main import app
try:
    app({words!r})
except SystemExit:
    pass
print([name for name in {NEVER!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("command", ["run", "train", "export", "benchmark"])
def test_help_of_a_command_imports_nothing_heavy(command: str) -> None:
    program = f"""
import sys
from deploykit.cli.main import app
try:
    app([{command!r}, "--help"])
except SystemExit:
    pass
print([name for name in {NEVER!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_importing_deploykit_imports_nothing_heavy() -> None:
    program = f"import sys, deploykit; print([name for name in {NEVER!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_version() -> None:
    done = deploykit("--version")
    assert (done.returncode, done.stdout) == (0, f"deploykit {__version__}\n")


def test_completion_is_offered_for_the_shell() -> None:
    program = "from deploykit.cli.main import app; app(['--show-completion', 'bash'])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "PATH": ""},
    )
    assert "complete" in done.stdout + done.stderr


def test_completion_lists_the_commands() -> None:
    import os

    words = {"_DEPLOYKIT_COMPLETE": "complete_bash", "COMP_WORDS": "deploykit ex", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "from deploykit.cli.main import app; app()"],
        capture_output=True,
        text=True,
        env={**os.environ, **words},
    )
    assert done.stdout.split() == ["export"], done.stderr
