"""What a text of the command line means, where the type of its field does not say."""

from __future__ import annotations

import re

import yaml

from deploykit.base.errors import BadInput


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


def channels(texts: list[str], flag: str) -> list[float]:
    """``0.5,0.5,0.5``: a number for each of three channels.

    Raises:
        BadInput: anything else.
    """
    try:
        values = [float(part) for part in texts[-1].split(",")]
    except ValueError:
        values = []
    if len(values) != 3:
        raise BadInput(
            f"cannot read {flag} {texts[-1]!r}", expected="three numbers with commas between them (0.5,0.5,0.5)"
        )
    return values


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
