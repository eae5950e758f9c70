"""Reading and checking a report that may come from anywhere, and the raw latencies that it names."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from deploykit.base.errors import BadInput, from_os_error
from deploykit.reporting.pick import primary_measurement
from deploykit.reporting.schema import SCHEMA, Report

VERSION = int(SCHEMA.rpartition("/")[2])


def _from_1(report: dict[str, Any]) -> dict[str, Any]:
    """/2 names the task, and the split of each figure; the quality follows from the accuracy."""
    data = report.get("data")
    split = data.get("split") if isinstance(data, dict) else None
    variants = report.get("variants")
    found = {**report, "schema": "deploykit.report/2", "task": "classify"}
    if isinstance(variants, list):
        found["variants"] = [_with_split(one, split) if isinstance(one, dict) else one for one in variants]
    return found


def _with_split(variant: dict[str, Any], split: Any) -> dict[str, Any]:
    named = {key: variant[key] for key in ("accuracy", "parity") if isinstance(variant.get(key), dict)}
    return {**variant, **{key: {**block, "split": split} for key, block in named.items()}}


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
"""version → a function that turns a report of that version into one of the next."""

_ERRORS_SHOWN = 5


def read_report(path: Path) -> Report:
    """Read ``report.json`` (or the one inside a run folder), migrate it to today's schema and check it.

    Args:
        path: of the file or of its folder.

    Raises:
        BadInput: missing, truncated, no report, of a schema we cannot read, or with values that do not fit.
    """
    path = Path(path)
    place = path / "report.json" if path.is_dir() else path
    try:
        text = place.read_text(encoding="utf-8")
    except OSError as error:
        raise from_os_error(error, f"cannot read {place}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{place} is no report: it is no UTF-8 text", expected="a report.json") from error
    try:
        report = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        what = "it is empty" if not text.strip() else f"it is no JSON ({error})"
        raise BadInput(f"{place} is no report: {what}", fix="It may be truncated; run the benchmark again.") from error
    return validate(report, str(place))


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it holds {name}")


def migrate(report: Any, where: str = "the report") -> dict[str, Any]:
    """Bring a report to today's schema version, one registered step at a time.

    Raises:
        BadInput: no report, or a version that is newer or too old.
    """
    schema = report.get("schema") if isinstance(report, dict) else None
    head, _, number = schema.rpartition("/") if isinstance(schema, str) else ("", "", "")
    if not isinstance(report, dict) or head != "deploykit.report" or not number.isascii() or not number.isdigit():
        got = f"schema {str(schema)[:80]!r}" if isinstance(report, dict) else f"a JSON {type(report).__name__}"
        raise BadInput(f"{where} is no deploykit report", got=got, expected=SCHEMA)
    version = int(number[:9])
    if version > VERSION:
        raise BadInput(
            f"{where} was made by a newer deploykit",
            got=schema,
            expected=f"{SCHEMA} or older",
            fix="Upgrade deploykit.",
        )
    while version < VERSION:
        if version not in MIGRATIONS:
            raise BadInput(
                f"{where} is of a schema we no longer read", got=schema, expected=SCHEMA, fix="Measure again."
            )
        report = MIGRATIONS[version](report)
        version += 1
    return report


def validate(report: Mapping[str, Any], where: str = "the report") -> Report:
    """Migrate and check a report as JSON has it; what was left out is null or empty.

    Raises:
        BadInput: names the fields that do not fit, with what was found and expected.
    """
    current = migrate(report, where)
    try:
        return Report.model_validate_json(json.dumps(current, allow_nan=False))
    except ValidationError as error:
        found = error.errors()
        lines = [_explain(one) for one in found[:_ERRORS_SHOWN]]
        more = f" · and {len(found) - _ERRORS_SHOWN} more" if len(found) > _ERRORS_SHOWN else ""
        raise BadInput(f"{where} does not fit {SCHEMA}: " + " · ".join(lines) + more) from error
    except ValueError as error:
        raise BadInput(f"{where} holds NaN or infinity, which a report cannot") from error


def _explain(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"]) or "(top)"
    if error["type"] == "extra_forbidden":
        return f"unknown key {place[:120]!r}"
    if error["type"] == "missing":
        return f"{place} is missing"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if error["type"] == "value_error":
        return f"{place}: {message}"
    shown = repr(error["input"])
    return f"{place}: got {shown if len(shown) <= 80 else shown[:77] + '...'}, expected {message}"


def plain(value: Any) -> Any:
    """A JSON-able copy: numpy scalars become Python's, tuples lists, and NaN and infinities null.

    Raises:
        TypeError: a value that JSON does not know.
    """
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if hasattr(value, "item") and not isinstance(value, float | int | bool | str):
        return plain(value.item())
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"a report cannot hold {type(value).__name__}")


MAX_BYTES = 1 << 28


def primary_samples(report: Report, folder: Path) -> dict[str, np.ndarray]:
    """Variant name → float64 [n] milliseconds of its primary measurement; those whose file is missing or unreadable
    are left out, because the numbers of the report stand without them.
    """
    found = {}
    for variant in report.variants:
        one = primary_measurement(report, variant)
        if one is not None and one.samples_file:
            samples = read_samples(folder / one.samples_file, folder)
            if samples is not None and samples.size >= 2:
                found[variant.name] = samples
    return found


def read_samples(path: Path, folder: Path) -> np.ndarray | None:
    """The ``samples_ms`` of an ``.npz``: float64 [n], positive and finite; None where that cannot be had.

    A path that leaves ``folder``, through a link for instance, is not followed.
    """
    try:
        real = path.resolve()
        if not real.is_relative_to(folder.resolve()) or not real.is_file() or real.stat().st_size > MAX_BYTES:
            return None
        with np.load(real, allow_pickle=False) as file:
            samples = np.asarray(file["samples_ms"], dtype=np.float64).ravel()
    except (OSError, ValueError, EOFError, KeyError, TypeError, IndexError, zipfile.BadZipFile):
        return None
    return samples[np.isfinite(samples) & (samples > 0)]
