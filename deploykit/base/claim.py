"""Claims: how a file that a killed command put in place is known as ours although its manifest is missing.

An artifact is a file and a manifest, two renames. Before the first a claim beside the output states the hashes of what
is about to come, and the manifest takes it away. A command that finds an output without its manifest, or with that of an
earlier file, compares it with the claim: only what it states byte for byte may be replaced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from deploykit.base.atomic import write_json
from deploykit.base.hashing import file_sha256

SCHEMA = "deploykit.claim/1"


def claim_path(output: Path) -> Path:
    """``model.pt`` → ``.model.pt.claim.json``."""
    return output.with_name(f".{output.name}.claim.json")


def write_claim(output: Path, files: Mapping[str, str]) -> None:
    """State what is about to come.

    Args:
        output: the artifact's main file.
        files: file name (in the folder of ``output``) → sha256.
    """
    write_json(claim_path(output), {"schema": SCHEMA, "files": dict(files)})


def is_claimed(output: Path, before: Mapping[str, str]) -> bool:
    """Whether everything that lies at ``output`` is what a claim states, or what was there before.

    Args:
        output: the artifact's main file.
        before: file name → sha256 of the manifest that is there; empty without one.
    """
    try:
        fields = json.loads(claim_path(output).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    files = fields.get("files") if isinstance(fields, dict) and fields.get("schema") == SCHEMA else None
    if not isinstance(files, dict) or output.name not in files:
        return False
    there = [output.with_name(name) for name in {*files, *before} if Path(name).name == name]
    return all(file_sha256(one) in (files.get(one.name), before.get(one.name)) for one in there if one.is_file())


def drop_claim(output: Path) -> None:
    """The manifest is in place: the claim goes."""
    claim_path(output).unlink(missing_ok=True)
