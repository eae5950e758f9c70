"""The choices file: what measured time decided, so that it need not be measured, and cannot be decided otherwise, again.

It is written where the user asked for tuning (``quantize --tune``, ``prune --latency``, a race of plans), beside the artifact
as ``FILE.choices.json``, and replayed with ``--choices FILE``: the same command then makes the same bytes on any machine.

It holds for one stage on one parent (by hash) for one ISA. ``measured`` and ``machine`` tell where the choice came from; they
are no part of its identity.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deploykit.base.atomic import JsonObject, write_json
from deploykit.base.errors import BadInput, from_os_error
from deploykit.base.hashing import value_sha256

SCHEMA = "deploykit.choices/1"


@dataclass(frozen=True)
class Choices:
    """What was chosen by measured time.

    ``stage``: of the command that chose. ``parent_sha256``: of the file that was chosen for. ``isa``: as
    :func:`deploykit.base.environment.isa` names it, or the kind of device. ``chosen``: the stage's own, JSON-able.
    ``measured``: what decided. ``machine``: where it was measured.
    """

    stage: str
    parent_sha256: str
    isa: str
    chosen: Mapping[str, Any]
    measured: Mapping[str, Any] = field(default_factory=dict)
    machine: str = ""
    schema: str = SCHEMA

    @property
    def sha256(self) -> str:
        """What a result that replays these choices depends on."""
        return value_sha256([self.schema, self.stage, self.parent_sha256, self.isa, dict(self.chosen)])


def choices_path(output: Path) -> Path:
    """``model.int8.onnx`` → ``model.int8.onnx.choices.json``."""
    return output.with_name(output.name + ".choices.json")


def write_choices(place: Path, choices: Choices) -> None:
    """Write the file whole or not at all."""
    write_json(place, asdict(choices))


def read_choices(place: Path, stage: str, parent_sha256: str, isa: str) -> Choices:
    """Read choices to replay.

    Raises:
        BadInput: no such file, no choices file, or choices of another stage, file or ISA.
    """
    again = "Leave --choices away, or choose anew with --tune."
    try:
        fields: JsonObject = json.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise from_os_error(error, f"cannot read {place}") from error
    except ValueError as error:
        raise BadInput(f"{place} is no JSON: {error}", fix=again) from error
    if not isinstance(fields, dict) or fields.get("schema") != SCHEMA:
        got = fields.get("schema") if isinstance(fields, dict) else type(fields).__name__
        raise BadInput(f"{place} holds no choices", got=got, expected=SCHEMA, fix=again)
    try:
        found = Choices(**fields)
        found.sha256  # noqa: B018  (its fields can be hashed)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{place} cannot be read: {error}", fix=again) from error
    for what, got, expected in (
        ("another stage", found.stage, stage),
        ("another file", found.parent_sha256[:12], parent_sha256[:12]),
        ("another ISA", found.isa, isa),
    ):
        if got != expected:
            raise BadInput(f"{place} holds choices for {what}", got=got, expected=expected, fix=again)
    return found
