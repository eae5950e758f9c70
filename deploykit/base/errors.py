"""Every error a user can meet, and the exit code it ends with."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class DeploykitError(Exception):
    """An error with one clear line: what, got, expected, how to mend it.

    ``what``: what is wrong, naming the file, flag or layer. ``got``: what was found, if that is not plain from
    ``what``. ``expected``: what would have been right. ``fix``: what the user can do now.
    """

    exit_code = 70
    status = "error"

    def __init__(self, what: str, *, got: object = None, expected: object = None, fix: str | None = None) -> None:
        self.what, self.got, self.expected, self.fix = what, got, expected, fix
        super().__init__(self.line())

    def line(self) -> str:
        """The whole error as one line."""
        parts = [self.what.rstrip(".")]
        if self.got is not None:
            parts.append(f"got {self.got}")
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        text = "; ".join(parts)
        return " ".join((f"{text}. {self.fix}" if self.fix else text).split())


class AnswerNo(DeploykitError):
    """The work ran and the answer is no: verification failed, a variant failed, a budget cannot be reached."""

    exit_code = 1
    status = "failed"


class BadInput(DeploykitError):
    """Wrong use or bad input."""

    exit_code = 2
    status = "bad_input"


class CannotTell(DeploykitError):
    """The data do not decide the question."""

    exit_code = 3
    status = "cannot_tell"


class Unavailable(DeploykitError):
    """This machine lacks what was asked for (GPU, package); ``fix`` says what to install."""

    exit_code = 4
    status = "unavailable"


class SystemTrouble(DeploykitError):
    """Disk or operating system."""

    exit_code = 5
    status = "system"


def from_os_error(error: OSError, doing: str) -> DeploykitError:
    """Turn an ``OSError`` met while ``doing`` something into the error the user should see.

    A missing, foreign or forbidden path is the user's to mend (exit 2); a full or broken disk is not (exit 5).
    """
    name = str(error.filename or "")
    reading = doing.removeprefix("cannot read ")
    subject = reading if name and reading != doing and reading.endswith(name) else f"{doing}: {name or 'a path'}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SystemTrouble(f"{doing}: the disk is full", fix="Free some space and run the same command again.")
    if error.errno == errno.ENOENT:
        return BadInput(f"{subject} does not exist", fix="Check the path.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return BadInput(f"{doing}: no permission for {name}", fix="Choose another path or change its permissions.")
    if error.errno in (errno.EISDIR, errno.ENOTDIR):
        return BadInput(f"{subject} is {'a folder' if error.errno == errno.EISDIR else 'not below a folder'}")
    return SystemTrouble(f"{doing}: {error.strerror or error}", got=name or None)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word closest to a misspelt one, or None if none is close."""
    found = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def unknown(kind: str, word: str, known: Iterable[str]) -> BadInput:
    """The error for a name that is not known: it lists what is, and suggests the nearest."""
    names = list(known)
    close = nearest(word, names)
    return BadInput(
        f"unknown {kind} {word!r}",
        expected="one of " + ", ".join(names),
        fix=f"Did you mean {close!r}?" if close else None,
    )


def shortened(text: str, most: int) -> str:
    """``text``, or its first ``most`` characters up to a word's end, with an ellipsis."""
    return text if len(text) <= most else f"{text[:most].rsplit(' ', 1)[0]} …"
