"""The walk along a recipe's variants that both checks and plans them: which step is made from which file.

A target's own steps (an export, what writes training for int8 out, a build) are added here, and so is the way back to the
model file that a later step trains. What cannot follow on what is said with its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deploykit.base.atomic import JsonObject
from deploykit.base.targets import target_names
from deploykit.config.recipe import STATES, Variant, is_qat, needs, state_after, takes, trains
from deploykit.config.yaml import Path as Place

Problem = tuple[Place, str]


@dataclass(frozen=True, eq=False)
class Call:
    """One step of a variant, or the recipe's model, where ``before`` is None.

    Attributes:
        variant: whose step it is.
        kind: of step; an empty text for the model.
        fields: that the variant sets.
        state: of the file it makes (see :data:`deploykit.config.recipe.STATES`).
        before: what makes its input.
        precision: of the float part of an exported file; what the recipe was given counts as fp32.
        last: no later step of the variant makes a model file.
        of_target: it is the build that a target adds by itself.
    """

    variant: str
    kind: str
    fields: JsonObject
    state: str
    before: Call | None = None
    precision: str = "fp32"
    last: bool = True
    of_target: bool = False

    @property
    def offered(self) -> Call:
        """What other variants start from: not the engine that a target builds by itself, but its input."""
        return self.before if self.of_target and self.before is not None else self


@dataclass
class Chains:
    """All variants walked along.

    Attributes:
        calls: all that the recipe asks for, each variant's together and in its order.
        made_by: variant → the call that makes its artifact; those in a cycle, or hanging on one, are left out.
        problems: place and what is wrong there.
    """

    calls: list[Call] = field(default_factory=list)
    made_by: dict[str, Call] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def chains_of(variants: Mapping[str, Variant], model_file: str) -> Chains:
    """Walk along all variants.

    Args:
        variants: that could be read.
        model_file: of the recipe, or an empty text where it trains.
    """
    found = Chains()
    above = {name: needs(name, variants) for name in variants}
    cyclic = {name: loop for name in variants if (loop := _loop(name, above)) is not None}
    for name, loop in cyclic.items():
        if name == min(loop[:-1]):
            found.problems.append((("variants", name, "from"), "a cycle: " + " from ".join(loop)))
    start = Call("", "", {}, "graph" if model_file.lower().endswith(".onnx") else "model")
    for name in variants:
        if name not in cyclic and not _all_above(name, above) & cyclic.keys():
            _walk(name, variants, start, found)
    return found


def _loop(name: str, above: Mapping[str, tuple[str, ...]]) -> list[str] | None:
    """The way from ``name`` back to itself, or None."""
    ways = [[name]]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for one in above[way[-1]]:
            if one == name:
                return [*way, one]
            if one not in seen:
                seen.add(one)
                ways.append([*way, one])
    return None


def _all_above(name: str, above: Mapping[str, tuple[str, ...]]) -> set[str]:
    found: set[str] = set()
    left = [name]
    while left:
        new = [one for one in above[left.pop()] if one not in found]
        found |= set(new)
        left += new
    return found


def _walk(name: str, variants: Mapping[str, Variant], start: Call, found: Chains) -> Call:
    """The call that makes the variant's artifact, or the last one before what does not fit."""
    if name not in found.made_by:
        source = variants[name].source
        inherited = _walk(source, variants, start, found).offered if source in variants else start
        found.made_by[name] = _Way(name, variants[name], start, inherited, found).last()
    return found.made_by[name]


@dataclass
class _Way:
    """The way along one variant, from what it starts from; ``found`` gets the calls and what does not fit."""

    name: str
    variant: Variant
    start: Call
    inherited: Call
    found: Chains

    def last(self) -> Call:
        """The last call that fits."""
        at, chain = self.inherited, self.variant.chain
        for number, (kind, fields) in enumerate(chain):
            wrong = self._misfit(kind, fields, at.state)
            if wrong is not None:
                self._wrong("steps", wrong)
                return at
            last = not any(trains(*later) for later in chain[number + 1 :])
            at = self._call(kind, fields, self._input(kind, fields, at), last=last)
        known = self.variant.engine in target_names()  # else that is said of the target itself
        return self._at_target(at) if known else at

    def _wrong(self, key: str, what: str) -> None:
        self.found.problems.append((("variants", self.name, key), what))

    def _call(self, kind: str, fields: JsonObject, before: Call, *, last: bool = True, of_target: bool = False) -> Call:
        variant, precision = self.variant, "fp32"
        if kind == "export":
            by_variant = variant.precision != "fp32" and variant.engine in target_names() and variant.cast_by == kind
            precision = variant.precision if by_variant else str(fields.get("precision", "fp32"))
        made = Call(self.name, kind, fields, state_after(kind, fields), before, precision, last, of_target)
        self.found.calls.append(made)
        return made

    def _misfit(self, kind: str, fields: JsonObject, at: str) -> str | None:
        """Why a step cannot take a file in state ``at``, or None."""
        label = "quantize with method qat" if is_qat(kind, fields) else kind
        inherited, start = self.inherited.state, self.start.state
        whose = self.variant.source if at == inherited else "the step before"
        if kind == "export" and at == "graph":
            return f"{whose} is ONNX already, remove the export"
        if kind == "export" and at == "int8" and inherited != "int8":
            return "export comes before quantize: int8 is written into the ONNX file"
        if kind == "quantize" and at == "int8":
            return f"{whose} is int8 already, remove the quantize"
        if takes(kind, fields) == {"model"} and at == "graph":
            return f"{label} takes a model file, but the recipe starts from an ONNX file" if start == "graph" else None
        if at in takes(kind, fields) or (kind == "build" and at in ("model", "qat")):
            return None
        return f"{label} does not take {STATES[at]}, which {whose} is"

    def _input(self, kind: str, fields: JsonObject, at: Call) -> Call:
        """What the step is made from: the model file behind a graph, or the graph that is made from a model file."""
        if takes(kind, fields) == {"model"}:
            while at.state != "model" and at.before is not None:
                at = at.before
            return at
        if at.state == "model":
            at = self._call("export", {}, at)
        if kind == "build" and at.state == "qat":
            at = self._call("quantize", {}, at)
        return at

    def _at_target(self, at: Call) -> Call:
        """What the target runs: those of ONNX export and write int8 out by themselves, some build."""
        variant, row = self.variant, self.variant.row
        if not row.takes_onnx:
            if at.state not in ("model", "qat"):
                how = f"starts from the ONNX of {variant.source}" if at.state == self.inherited.state else "exports"
                self._wrong("target", f"{variant.engine} runs model files, but {self.name} {how}")
            return at
        if at.state in ("model", "qat"):
            at = self._call("export" if at.state == "model" else "quantize", {}, at)
        quantizes = any(kind == "quantize" for kind, _ in variant.chain)
        if quantizes and at.state in ("int8", "engine") and row.dialect is None:
            able = ", ".join(target_names(lambda other: other.dialect is not None))
            self._wrong("target", f"int8 for {row.name} is not built, only {able}")
        if variant.precision != "fp32" and variant.cast_by == "export" and at.state == "int8":
            what = f"the float part of {variant.source} has its precision already, set it where that is quantized"
            self._wrong("precision", what)
        if variant.cast_by == "export" and at.state == "graph" and at.precision != variant.precision:
            at = self._call("export", {}, at)
        if row.needs_build and at.state in ("graph", "int8"):
            at = self._call("build", {}, at, of_target=True)
        return at
