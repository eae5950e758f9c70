"""What a text of the command line means, where the type of its field does not say."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from deploykit.base.errors import BadInput, from_os_error


def pairs(texts: list[str], flag: str) -> dict[str, object]:
    """``key=value`` texts, several in one where commas stand between them; values are YAML.

    Raises:
        BadInput: a text without ``=``, or a value that is no YAML.
    """
    fields: dict[str, object] = {}
    for text in texts:
        for pair in re.split(r",(?=\s*[A-Za-z_]\w*=)", text):
            key, equals, value = pair.strip().partition("=")
            if not equals or not key:
                raise BadInput(f"cannot read {flag} {text!r}", expected="KEY=VALUE")
            try:
                fields[key] = yaml.safe_load(value)
            except yaml.YAMLError as error:
                raise BadInput(f"cannot read the value of {key} in {flag} {text!r}") from error
    return fields


def numbers(texts: list[str], flag: str) -> list[float]:
    """``0.5`` or ``0.5,0.5,0.5``: a number, or one for each channel.

    Raises:
        BadInput: anything else.
    """
    try:
        values = [float(part) for part in texts[-1].split(",")]
    except ValueError:
        values = []
    if not values or not all(map(math.isfinite, values)):
        raise BadInput(f"cannot read {flag} {texts[-1]!r}", expected="numbers with commas between them (0.5,0.5,0.5)")
    return values


def height_width(value: Any) -> Any:
    """``S``, ``HxW`` or two numbers as one number where the sides are equal, else as two; what is neither stays.

    Raises:
        ValueError: a text of another form, or a side below 1.
    """
    expected = "expected S or HxW in pixels, as in 224 or 48x320"
    if isinstance(value, str):
        found = re.fullmatch(r"(\d{1,6})(?:\s*[x×]\s*(\d{1,6}))?", value.strip().lower())
        if found is None:
            raise ValueError(f"got {value!r}, {expected}")
        value = (int(found.group(1)), int(found.group(2) or found.group(1)))
    if isinstance(value, list | tuple):
        if len(value) != 2 or any(isinstance(one, bool) or not isinstance(one, int) for one in value):
            raise ValueError(f"got {value!r}, {expected}")
        value = value[0] if value[0] == value[1] else tuple(value)
    if (isinstance(value, int) and value < 1) or (isinstance(value, tuple) and min(value) < 1):
        raise ValueError(f"got {value!r}, expected at least 1 pixel")
    return value


def lines_of(path: Path, flag: str) -> tuple[str, ...]:
    """The lines of a text file: names, one a line; empty lines at its end do not count.

    Raises:
        BadInput: it cannot be read, is no text, is empty, or has an empty line or a name twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise from_os_error(error, f"cannot read {path}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{flag} {path} is no text in UTF-8: {error}") from error
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if not lines:
        raise BadInput(f"{flag} {path} is empty", expected="a class name a line")
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line:
            raise BadInput(f"{flag} {path}, line {number} is empty", expected="a class name a line")
        if line in seen:
            raise BadInput(f"{flag} {path}, line {number}: {line!r} stands in line {seen[line]} too")
        seen[line] = number
    return tuple(lines)


def ratio(texts: list[str], flag: str) -> float:
    """``±1%``, ``1%`` or ``0.01`` as 0.01.

    Raises:
        BadInput: anything else.
    """
    text = texts[-1].strip().removeprefix("±").removeprefix("+-").strip()
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise BadInput(f"{flag}: {texts[-1]!r} is no ratio", expected="0.01, 1% or ±1%") from None


def seconds(texts: list[str], flag: str) -> float:
    """An age: ``90s``, ``30min``, ``12h`` or ``7d``.

    Raises:
        BadInput: anything else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)", texts[-1].strip())
    if found is None:
        raise BadInput(flag, got=texts[-1], expected="a number with s, min, h or d, as in 12h")
    return float(found.group(1)) * {"s": 1, "min": 60, "h": 3600, "d": 86400}[found.group(2)]


def fractions(texts: list[str], flag: str) -> dict[str, float]:
    """``LAYER=FRACTION`` texts.

    Raises:
        BadInput: anything else, or a layer that is named twice.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            one = float(value)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise BadInput(f"cannot read {flag} {text!r}", expected="LAYER=FRACTION (layer1.0.conv1=0.5)")
        if name in found:
            raise BadInput(
                f"{flag} names {name} twice", got=f"{found[name]:g} and {one:g}", expected="one ratio for a layer"
            )
        found[name] = one
    return found


def whole(texts: list[str], flag: str) -> int | str:
    """A whole number where the text is one, else the text itself."""
    return int(texts[-1]) if texts[-1].lstrip("-").isdecimal() else texts[-1]


def number(texts: list[str], flag: str) -> float | str:
    """A number where the text is one, else the text itself."""
    try:
        return float(texts[-1])
    except ValueError:
        return texts[-1]


def shapes(texts: list[str], flag: str) -> dict[str, list[int]]:
    """``NAME:1x3x640x640`` texts, one an input; the name of an only input may be left away.

    Raises:
        BadInput: anything else, a size of 0, or an input that is named twice.
    """
    found: dict[str, list[int]] = {}
    for text in texts:
        name, _, sizes = text.strip().rpartition(":")
        if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", sizes):
            raise BadInput(
                f"cannot read {flag} {text!r}", expected="NAME:SIZES with sizes above 0, as images:1x3x640x640"
            )
        if name in found:
            raise BadInput(f"{flag} names the input {name!r} twice", expected="one shape an input")
        found[name] = [int(size) for size in sizes.split("x")]
    return found
