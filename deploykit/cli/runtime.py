"""What surrounds every command: progress on stderr, one result on stdout, one line for an error, the exit code."""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from deploykit.base.errors import DeploykitError, from_os_error
from deploykit.base.progress import SILENT, Progress

if TYPE_CHECKING:
    from deploykit.base.command_result import Result

_NO_MEMORY = re.compile(r"can't allocate memory|CUDA out of memory|bad allocation|std::bad_alloc")  # torch's words


class Runtime:
    """One running command: where it reports progress, and how it ends."""

    def __init__(self, command: str, progress: Progress, as_json: bool) -> None:
        self.command, self.progress, self.as_json = command, progress, as_json
        self.exit_code = 0

    def finish(self, result: Result) -> None:
        """Print the result, as the JSON object with ``--json``, else as text; then end with its exit code."""
        if result.complaint:
            print(f"deploykit {self.command}: {result.complaint}", file=sys.stderr)
        if self.as_json:
            print_json(self.command, result.status, result.to_dict())
        elif text := result.summary():
            print(text)
        self.exit_code = result.exit_code


def print_json(command: str, status: str, fields: Mapping[str, object]) -> None:
    """The one JSON object of ``--json``; no field takes the place of its schema or status."""
    head = {"schema": f"deploykit.{command}/1", "status": status}
    print(json.dumps({**head, **fields, **head}, allow_nan=False))


@contextmanager
def running(command: str, *, quiet: bool = False, debug: bool = False, as_json: bool = False) -> Iterator[Runtime]:
    """Run a command's body: errors become one line on stderr and the exit code of DESIGN.

    With ``debug`` the traceback stands before the line.

    Raises:
        typer.Exit: always, with the exit code.
    """
    if quiet:
        runtime = Runtime(command, SILENT, as_json)
    else:
        from deploykit.cli.progress import terminal_progress

        runtime = Runtime(command, terminal_progress(), as_json)
    try:
        yield runtime
    except (typer.Exit, typer.Abort):
        raise
    except BrokenPipeError:
        sys.stderr.close()
        raise typer.Exit(0) from None
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        _fail(runtime, *_told(error))
    raise typer.Exit(runtime.exit_code)


def _told(error: BaseException) -> tuple[str, str, int]:
    """Status, line and exit code of an error."""
    if isinstance(error, OSError):
        error = from_os_error(error, "the work stopped")
    if isinstance(error, DeploykitError):
        return error.status, error.line(), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "interrupted; run the same command again to go on", 130
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))):
        return "system", " ".join(f"out of memory: {error}".split())[:300], 5
    what = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    line = f"this is a bug of deploykit: {what}. Run it with --debug for the traceback and report it."
    return "bug", line, 70


def _fail(runtime: Runtime, status: str, line: str, code: int) -> None:
    print(f"deploykit {runtime.command}: {line}", file=sys.stderr)
    if runtime.as_json:
        print_json(runtime.command, status, {"error": line, "exit_code": code})
    raise typer.Exit(code)
