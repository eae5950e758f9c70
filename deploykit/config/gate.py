"""Configuration of the gate: the policy that people write, and how the command uses it.

Read a policy file: strict YAML, every error at once with its line.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, create_model

from deploykit.base.errors import BadInput, from_os_error, nearest
from deploykit.config.command import Argument, Command, output
from deploykit.config.common import Config, explain
from deploykit.config.flag import Flag
from deploykit.config.options import data_help
from deploykit.config.registries import LIMITS
from deploykit.config.yaml import read_yaml

_VALUES: dict[str, Any] = {
    "share": Annotated[float, Field(ge=0, le=1)],
    "points": Annotated[float, Field(ge=-100, le=100)],
    "positive": Annotated[float, Field(gt=0)],
    "bytes": Annotated[int, Field(ge=0)],
    "number": float,
    "true": bool,
}


def limits_model() -> type[Config]:
    """What one variant is held to, a field for each of :data:`deploykit.config.registries.LIMITS`."""
    fields: dict[str, Any] = {
        one.name: (_VALUES[one.values] | None, Field(default=None, description=one.help)) for one in LIMITS.values()
    }
    doc = "What one variant is held to; a limit that is not named, or null, is none."
    return create_model("Limits", __base__=Config, __doc__=doc, __module__=__name__, **fields)


if TYPE_CHECKING:

    class Limits(Config):
        """See :func:`limits_model`."""
else:
    Limits = limits_model()


class MeasurementChoice(Config):
    """Which measurement the limits on speed speak of; what is null is as in the report's primary one."""

    scenario: str | None = None
    batch: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)
    timed: Literal["compute", "end_to_end"] | None = None
    clock: Literal["host", "device"] | None = None


class GatePolicy(Config):
    """A whole policy; every limit is an interval test, and Holm's correction holds over all of them together.

    Attributes:
        version: of the policy format. In version 2, ``*`` does not mean references (variants that PyTorch itself runs), and
            ``machine``, ``on_cannot_tell`` and limits in units of time may stand; version 1 is read as it always was.
        name: shown in the comment.
        confidence: that no limit is called failed or passed wrongly, over all limits together.
        limits: variant → :class:`Limits`; ``*`` is every variant but the report's baseline, a variant's own entry
            replaces single limits of it (null lifts one). A variant that is named here must be in the report.
        required: further variants that must be in the report.
        ignore: variants that are not judged.
        skipped: what a variant means that the machine could not run.
        measurement: which one the limits on speed speak of; null: the report's primary one.
        reference: the variant, measured in both reports, that times are divided by in ``max_latency_ratio_vs_baseline``;
            null: the report's baseline variant.
        machine: that limits in units of time hold for, as a report names it; another one cannot tell.
        on_cannot_tell: whether a gate that cannot tell ends with exit code 3 (``fail``) or with 0 and a warning (``warn``).
    """

    version: Literal[1, 2]
    name: str = "gate"
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    limits: dict[str, Limits] = Field(min_length=1)
    required: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    skipped: Literal["fail", "ignore"] = "fail"
    measurement: MeasurementChoice | None = None
    reference: str | None = None
    machine: str | None = None
    on_cannot_tell: Literal["fail", "warn"] = "fail"


class GateConfig(Config):
    """How a report is judged."""

    policy: Annotated[str | GatePolicy, Flag(metavar="POLICY")] = Field(
        default="default", description="A policy file, or the name of a shipped one."
    )
    baseline: Annotated[str | None, Flag(metavar="PATH")] = Field(
        default=None, description="An older report or its run folder, to compare with."
    )
    retry: int = Field(
        default=0,
        ge=0,
        le=20,
        description="Measure again up to so many times where limits on speed are undecided; all looks share the confidence.",
    )
    retry_time_s: Annotated[float, Flag("--retry-time")] = Field(
        default=30.0, gt=0, description="Seconds of each of these measurements."
    )
    data: str | None = Field(
        default=None, description=data_help("To measure again on, where the run folder has no stage file that tells")
    )
    annotations: Literal["auto", "github", "none"] = Field(
        default="auto", description="GitHub's annotations and step summary; auto: where GitHub runs it."
    )


EVERY = "*"
_SINCE_2 = ("machine", "on_cannot_tell")


def shipped_policies() -> dict[str, Path]:
    """Name → path of the policies that come with deploykit."""
    return {path.stem: path for path in sorted(Path(str(files("deploykit.recipes"))).glob("gates/*.yaml"))}


def load_policy(name: str) -> GatePolicy:
    """The policy that a user's word means: a file first, else a shipped name.

    Raises:
        BadInput: neither, or with every error of the file at once, each with its line.
    """
    path, shipped = Path(name), shipped_policies()
    if not path.exists() and name in shipped:
        path = shipped[name]
    elif not path.exists():
        close = nearest(name, shipped)
        raise BadInput(
            f"there is no policy {name}",
            expected="a path, or one of " + ", ".join(shipped),
            fix=f"Did you mean {close!r}?" if close else None,
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no text file", expected="a policy in YAML") from error
    except OSError as error:
        raise from_os_error(error, f"cannot read the policy {path}") from error
    return parse_policy(text, path.name)


def parse_policy(text: str, name: str) -> GatePolicy:
    """:func:`load_policy` of text; ``name`` stands in messages.

    Raises:
        BadInput: with every error, each with its line.
    """
    source = read_yaml(text, name)
    if not isinstance(source.data, dict):
        raise BadInput(
            f"{name} is no policy", got=type(source.data).__name__, expected="a mapping with version and limits"
        )
    found = [text for _, text in sorted(source.errors)]
    found += [f"{source.at(place)}: {what}" for place, what in policy_problems(source.data)]
    if found:
        raise BadInput(" · ".join(dict.fromkeys(found)))
    return GatePolicy.model_validate(source.data)


def policy_problems(fields: Any) -> list[tuple[tuple[str | int, ...], str]]:
    """Every error of a policy's plain data: the place in it, and what is wrong there; a misspelt key with the nearest."""
    try:
        policy = GatePolicy.model_validate(fields)
    except ValidationError as error:
        return [(tuple(one["loc"]), _explained(one)) for one in error.errors()]
    if policy.version > 1:
        return []
    new: list[tuple[str | int, ...]] = [(key,) for key in _SINCE_2 if key in policy.model_fields_set]
    for name, limits in policy.limits.items():
        new += [
            ("limits", name, one.name)
            for one in LIMITS.values()
            if one.of_machine and one.name in limits.model_fields_set
        ]
    return [(place, f"{'.'.join(map(str, place))} is of policies of version 2, write version: 2") for place in new]


def _explained(error: Any) -> str:
    place = error["loc"]
    if len(place) < 3 or place[0] != "limits":
        return explain(GatePolicy, error)
    inner = explain(Limits, {**error, "loc": place[2:]})
    return f"limits.{place[1]}: {inner}"


COMMAND = Command(
    "Judge a report: exit 0 where every limit of the policy holds, 1 where one is broken, 3 where the numbers cannot tell.",
    GateConfig,
    (
        Argument("report", "The report to judge.", metavar="RUN_FOLDER|REPORT.json"),
        output(
            "Folder for gate.json, gate.md (the comment), JUnit, and the formats of GitLab, github-action-benchmark and "
            "Bencher; default: nothing is written."
        ),
    ),
)
