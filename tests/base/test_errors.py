"""One clear line, and the right exit code."""

from __future__ import annotations

import errno

import pytest

from deploykit.base import errors


def test_the_line_has_what_got_expected_and_fix() -> None:
    error = errors.BadInput("opset.", got=3, expected="13 to 25", fix="Choose\none.")
    assert error.line() == str(error) == "opset; got 3; expected 13 to 25. Choose one."
    assert errors.BadInput("only what").line() == "only what"


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (errno.ENOSPC, errors.SystemTrouble, "the disk is full. Free some space"),
        (errno.EDQUOT, errors.SystemTrouble, "the disk is full"),
        (errno.EIO, errors.SystemTrouble, "x.pt"),
        (errno.ENOENT, errors.BadInput, "x.pt does not exist. Check the path."),
        (errno.EACCES, errors.BadInput, "no permission for x.pt"),
        (errno.EROFS, errors.BadInput, "no permission"),
        (errno.EISDIR, errors.BadInput, "x.pt is a folder"),
        (errno.ENOTDIR, errors.BadInput, "x.pt is not below a folder"),
    ],
)
def test_errors_of_the_system(number: int, kind: type[errors.DeploykitError], text: str) -> None:
    made = errors.from_os_error(OSError(number, "reason", "x.pt"), "cannot write")
    assert type(made) is kind
    assert made.line().startswith("cannot write: ")
    assert text in made.line()


def test_unknown_names_list_the_known_and_suggest_the_nearest() -> None:
    assert errors.unknown("target", "ort-cpx", ["ort-cpu", "x"]).line() == (
        "unknown target 'ort-cpx'; expected one of ort-cpu, x. Did you mean 'ort-cpu'?"
    )
    assert errors.unknown("target", "zzz", ["ort-cpu"]).fix is None


def test_every_class_has_its_own_code() -> None:
    kinds = [errors.AnswerNo, errors.BadInput, errors.CannotTell, errors.Unavailable, errors.SystemTrouble]
    assert [kind.exit_code for kind in kinds] == [1, 2, 3, 4, 5]
    assert errors.DeploykitError.exit_code == 70
