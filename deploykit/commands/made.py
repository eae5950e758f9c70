"""What every command that makes one artifact answers with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Made:
    """One artifact, made now or there already.

    Attributes:
        output: the artifact.
        made: False where the identical file was there already.
        facts: what was found out while it was made, as the command's own result says.
    """

    output: Path
    made: bool
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The object of ``--json``."""
        return {"output": str(self.output), "made": self.made, **self.facts}
