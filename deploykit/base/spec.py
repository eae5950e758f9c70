"""How a thing to run or to measure is named: ``[NAME=]PATH[@TARGET[:key=value,…]]``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from deploykit.base.errors import BadInput
from deploykit.base.targets import check_target


@dataclass(frozen=True)
class Spec:
    """``[NAME=]PATH[@TARGET[:key=value,…]]`` taken apart: one thing to run or to measure.

    ``name``: of the variant; the file's stem where none was given. ``target``: None where not named: the manifest's or
    the file's natural one. ``options``: of the target, as given (``use_tf32=0``); a value that holds a comma stands in
    double quotes.
    """

    name: str
    path: Path
    target: str | None = None
    options: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        quoted = {key: f'"{value}"' if "," in value else value for key, value in self.options.items()}
        options = ",".join(f"{key}={value}" for key, value in quoted.items())
        return (
            f"{self.name}={self.path}" + (f"@{self.target}" if self.target else "") + (f":{options}" if options else "")
        )


_OPTION = r'([A-Za-z_][\w.]*)=(?:"([^"]*)"|([^,"]*))'
_UNNAMED = _OPTION.replace("([", "(?:[")
_TARGET_PART = re.compile(rf"@([a-z][a-z0-9-]*)(?::({_UNNAMED}(?:,{_UNNAMED})*))?$")


def parse_spec(text: str) -> Spec:
    """Take ``[NAME=]PATH[@TARGET[:key=value,…]]`` apart. Whether the path exists is not looked at.

    A file whose own name holds ``=`` or ``@`` is meant as a whole when it exists.

    Raises:
        BadInput: no path, an unknown target, or a bad option.
    """
    if text and Path(text).exists():
        return Spec(Path(text).stem, Path(text))
    name, rest = None, text
    if (head := re.match(r"([A-Za-z0-9][\w.+-]*)=", text)) is not None:
        name, rest = head.group(1), text[head.end() :]
    target: str | None = None
    options: dict[str, str] = {}
    if "@" in rest and not Path(rest).exists():
        found = _TARGET_PART.search(rest)
        if found is None:
            raise BadInput(f"cannot read {text!r}", expected="[NAME=]PATH[@TARGET[:key=value,…]]")
        target = check_target(found.group(1))
        for key, quoted, bare in re.findall(_OPTION, found.group(2) or ""):
            options[key] = quoted or bare
        rest = rest[: found.start()]
    if not rest:
        raise BadInput(f"no path in {text!r}", expected="[NAME=]PATH[@TARGET[:key=value,…]]")
    return Spec(name or Path(rest).stem, Path(rest), target, options)
