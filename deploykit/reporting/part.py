"""What the parts of a report have in common: strict values, paths that stay inside, numbers in order."""

from __future__ import annotations

import itertools
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _relative(path: str) -> str:
    if not path or path.startswith("/") or "\\" in path or path[1:2] == ":":
        raise ValueError(f"got {path!r}, expected a path relative to the report, with forward slashes")
    return path


def _inside(path: str) -> str:
    if ".." in PurePosixPath(_relative(path)).parts:
        raise ValueError(f"got {path!r}, expected a path inside the report's folder")
    return path


RelativePath = Annotated[str, AfterValidator(_relative)]
InsidePath = Annotated[str, AfterValidator(_inside)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Points = Annotated[float, Field(ge=-100, le=100)]
Count = Annotated[int, Field(ge=0)]


class Part(BaseModel):
    """A part of the report: strict types, no NaN, unknown keys refused."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    def plain(self) -> dict[str, Any]:
        """JSON-able, every field present."""
        return self.model_dump(mode="json", by_alias=True)


def ordered(place: str, *values: float | None) -> None:
    """Refuse known values that do not rise."""
    known = [value for value in values if value is not None]
    if any(low > high + 1e-9 * max(abs(low), abs(high)) for low, high in itertools.pairwise(known)):
        raise ValueError(f"{place} are not in order: {', '.join(f'{value:g}' for value in known)}")
