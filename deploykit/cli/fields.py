"""From options to the fields of a configuration."""

from __future__ import annotations

from typing import Any


def set_only(fields: dict[str, Any]) -> dict[str, Any]:
    """Those that were given; the others are the configuration's to decide."""
    return {key: value for key, value in fields.items() if value is not None}


def pairs(texts: list[str], flag: str) -> dict[str, Any]:
    """``key=value`` texts, several in one where commas stand between them; values are YAML.

    Raises:
        BadInput: a text without ``=``, or a value that is no YAML.
    """
    import re

    import yaml

    from deploykit.base.errors import BadInput

    fields: dict[str, Any] = {}
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
