"""Run a recipe: every stage that is not in the store already, then one measurement of all variants."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit.base.command_result import Result
from deploykit.base.errors import DeploykitError, SystemTrouble, Unavailable, from_os_error
from deploykit.base.progress import SILENT, Progress
from deploykit.config.gate import GatePolicy
from deploykit.config.keywords import by_keywords
from deploykit.config.recipe import Recipe
from deploykit.config.recipe_read import load_recipe
from deploykit.config.run import RunConfig
from deploykit.pipeline import stages
from deploykit.pipeline.find_recipe import find_recipe, refuse_code
from deploykit.pipeline.folder import RunFolder
from deploykit.pipeline.measurement import measure, measurement_key
from deploykit.pipeline.plan import Plan, Stage, plan
from deploykit.reporting.terminal import plan_of, summary_of

if TYPE_CHECKING:
    from deploykit.commands.gate import GateResult
    from deploykit.reporting.schema import Report


@dataclass(frozen=True)
class Done:
    """What became of one stage.

    Attributes:
        name: of the stage.
        status: ``done``, ``kept`` (taken from the store), ``failed``, ``skipped`` (this machine lacks something);
            of a dry run ``kept`` or ``to do``.
        seconds: it took.
        reason: why it failed, was skipped, or is to do; what is wrong with a file that was made all the same.
    """

    name: str
    status: str
    seconds: float = 0.0
    reason: str | None = None


@dataclass(frozen=True)
class RunResult(Result):
    """What a run did.

    Attributes:
        name: of the recipe.
        folder: the run folder.
        stages: what became of each, in order.
        report: the report, or None after a dry run.
        gate: the verdict of the recipe's gate, or None where it has none.
    """

    name: str
    folder: Path
    stages: tuple[Done, ...]
    report: Report | None = None
    gate: GateResult | None = None

    @property
    def status(self) -> str:
        """``planned``; the gate's where there is one; ``failed`` if a variant failed, else ``ok``."""
        if self.report is None:
            return "planned"
        if self.gate is not None:
            return self.gate.status
        return "failed" if any(one.status == "failed" and not one.accepted for one in self.report.variants) else "ok"

    @property
    def exit_code(self) -> int:
        """The gate's where there is one, else 1 if a variant failed that is not accepted."""
        if self.gate is not None:
            return self.gate.exit_code
        return 1 if self.status == "failed" else 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, for ``--json``."""
        done = [
            {"name": s.name, "status": s.status, "seconds": round(s.seconds, 2), "reason": s.reason}
            for s in self.stages
        ]
        report = None if self.report is None else (self.folder / "report.json").as_posix()
        fields: dict[str, Any] = {"name": self.name, "folder": self.folder.as_posix(), "stages": done, "report": report}
        if self.report is not None:
            fields["pick"] = None if self.report.pick is None else self.report.pick.plain()
            fields["variants"] = [
                {key: getattr(variant, key) for key in ("name", "target", "status", "accepted", "reason")}
                for variant in self.report.variants
            ]
        if self.gate is not None:
            fields["gate"] = self.gate.to_dict()
        return fields

    def summary(self) -> str:
        """For people: the plan of a dry run, else the table of variants and where the report lies."""
        if self.report is None:
            return plan_of(self.name, self.folder, [[one.name, one.status, one.reason or ""] for one in self.stages])
        gate = None if self.gate is None else self.gate.gate.summary()
        return summary_of(self.report, self.folder, [one.status for one in self.stages], gate)

    def _repr_html_(self) -> str:
        from deploykit.reporting.html import framed

        return super()._repr_html_() if self.report is None else framed(self.report, self.folder)


@dataclass
class _Work:
    """What one run knows while it goes on."""

    recipe: Recipe
    plan: Plan
    folder: RunFolder
    config: RunConfig
    force: bool
    progress: Progress
    data: stages.Data
    paths: dict[str, Path] = field(default_factory=dict)
    failed: dict[str, DeploykitError] = field(default_factory=dict)
    done: list[Done] = field(default_factory=list)
    lacking: dict[str, Unavailable | None] = field(default_factory=dict)


@by_keywords(RunConfig)
def run(
    recipe: str | Path,
    output: Path | str | None = None,
    config: RunConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> RunResult:
    """Run a recipe from wherever an earlier run of it got to.

    Args:
        recipe: path of a recipe, or the name of a shipped one (``quickstart``).
        output: the run folder; None: ``runs/NAME``.
        config: how it is run.
        force: replace files of the run folder that were changed by hand.
        progress: where it tells what it does.

    Raises:
        BadInput: the recipe, the data or the run folder are not as they must be.
        AnswerNo: the baseline failed, so that nothing can be compared.
        SystemTrouble: the disk, or another run holds the folder and it shall not be waited for.
    """
    config = config or RunConfig()
    path = find_recipe(str(recipe))
    loaded = load_recipe(path, config.changes)
    refuse_code(loaded, path.name, allowed=config.allow_code)
    folder = RunFolder(Path(output) if output is not None else Path("runs") / loaded.name)
    data = stages.Data(loaded.data, allow_code=config.allow_code, progress=progress)
    work = _Work(loaded, plan(loaded, allow_code=config.allow_code), folder, config, force, progress, data)
    if config.dry_run:
        return _dry(work)
    _check_inputs(work, path)
    folder.make()
    with folder.locked(wait=config.wait, progress=progress):
        for stage in work.plan.stages:
            _do(work, stage)
        began = time.monotonic()
        report, kept = measure(
            loaded, work.plan, folder, work.paths, work.failed, config, data, force=force, progress=progress
        )
        work.done.append(Done("all.benchmark", "kept" if kept else "done", time.monotonic() - began))
        if all(one.status in ("kept", "skipped") for one in work.done):
            progress.say(
                f"Nothing to do: every result of {loaded.name} is there already (--remeasure times them again)."
            )
        verdict = _gated(work, path)
    return RunResult(loaded.name, folder.root, tuple(work.done), report, verdict)


def _gated(work: _Work, recipe: Path) -> GateResult | None:
    """Judge the report with the recipe's gate, into ``gate/`` of the run folder."""
    if work.recipe.gate is None:
        return None
    from deploykit.commands.gate import gate
    from deploykit.config.gate import GateConfig

    config = GateConfig(policy=_policy(work.recipe.gate, recipe), data=work.recipe.data.name)
    return gate(work.folder.root, work.folder.root / "gate", config, force=work.force, progress=work.progress)


def _policy(named: str | GatePolicy, recipe: Path) -> str | GatePolicy:
    """The policy; a relative file is looked for beside the recipe first."""
    beside = recipe.parent / named if isinstance(named, str) else None
    return str(beside) if beside is not None and beside.is_file() else named


def _check_inputs(work: _Work, recipe: Path) -> None:
    """Policy, model file and data can be read: said before anything is made or another run is waited for."""
    if isinstance(work.recipe.gate, str):
        from deploykit.config.gate import load_policy

        load_policy(str(_policy(work.recipe.gate, recipe)))
    for stage in work.plan.stages:
        if stage.command == "load":
            _existing(stage.output)
    work.data.sha256("test")


def _dry(work: _Work) -> RunResult:
    """Which stages would run; one whose input is not there yet cannot be looked up, and would run."""
    for stage in work.plan.stages:
        source = work.paths.get(stage.source) if stage.source else None
        if stage.command == "load":
            work.paths[stage.name] = _existing(stage.output)
            continue
        if any(one not in work.paths for one in stage.needs):
            work.done.append(Done(stage.name, "to do", reason="its input is made first"))
            continue
        try:
            entry = work.folder.store.find(_place(work, stage, _arguments(work, stage, source)))
        except Unavailable:
            entry = None
        if entry is None:
            work.done.append(Done(stage.name, "to do", reason="no stored result"))
        else:
            work.paths[stage.name] = entry.folder / stage.output
            work.done.append(Done(stage.name, "kept"))
    complete = len(work.paths) == len(work.plan.stages) and not work.config.remeasure
    if complete:
        key = measurement_key(work.recipe, work.plan, work.paths, {}, work.config, work.data)
        complete = work.folder.store.find(key) is not None
    work.done.append(
        Done("all.benchmark", "kept")
        if complete
        else Done("all.benchmark", "to do", reason=", ".join(work.recipe.variants) + " together")
    )
    return RunResult(work.recipe.name, work.folder.root, tuple(work.done))


def _do(work: _Work, stage: Stage) -> None:
    """Make one artifact, or take it from the store; a failure is noted for the variants that need it."""
    if stage.command == "load":
        work.paths[stage.name] = _existing(stage.output)
        return
    broken = next((one for one in stage.needs if one in work.failed), None)
    if broken is not None:
        work.failed[stage.name] = work.failed[broken]
        return
    arguments = _arguments(work, stage, work.paths[stage.source] if stage.source else None)
    stages.leave_stage_file(work.folder.stages / f"{stage.name}.yaml", stage.command, arguments)
    path = work.folder.root / stage.output
    began = time.monotonic()
    try:
        place = _place(work, stage, arguments)
    except DeploykitError as error:
        _failed(work, stage, (_lack(work, stage) or error) if isinstance(error, Unavailable) else error, began)
        return
    entry = work.folder.store.find(place)
    if entry is not None:
        work.folder.store.restore(entry, work.folder.root, force=work.force)
        work.progress.say(f"{stage.name}: kept, the stored result has the same inputs and configuration")
        _made(work, stage, "kept", began)
        return
    if (lack := _lack(work, stage)) is not None:
        _failed(work, stage, lack, began)
        return
    work.progress.say(f"{stage.name}: {path}")
    try:
        stages.call(stage.command, arguments, force=work.force, progress=work.progress)
    except DeploykitError as error:
        _failed(work, stage, error, began)
        return
    work.folder.store.keep(place, stage.name, work.folder.root, stages.files_of_artifact(path))
    _made(work, stage, "done", began)


def _made(work: _Work, stage: Stage, how: str, began: float) -> None:
    """Note the file that a stage made; one that was judged unsure or failed goes on all the same, and is timed."""
    path = work.paths[stage.name] = work.folder.root / stage.output
    doubt = stages.doubt_of(path)
    if doubt:
        work.progress.warn(f"{stage.name}: {doubt}; its file is kept and measured")
    work.done.append(Done(stage.name, how, time.monotonic() - began, doubt or None))


def _failed(work: _Work, stage: Stage, error: DeploykitError, began: float) -> None:
    """Note why a stage made nothing; raise what concerns all variants."""
    if isinstance(error, SystemTrouble) or stage.source is None:
        raise error
    status = "skipped" if isinstance(error, Unavailable) else "failed"
    work.progress.warn(f"{stage.name} {status}: {error.line()}")
    work.failed[stage.name] = error
    work.done.append(Done(stage.name, status, time.monotonic() - began, error.line()))


def _lack(work: _Work, stage: Stage) -> Unavailable | None:
    """What this machine lacks where every variant that needs the stage has a target that cannot be used here."""
    from deploykit.engines import lacking

    if stage.source is None:
        return None
    targets = {work.recipe.variants[name].engine for name in work.plan.users(stage.name)}
    for target in targets - set(work.lacking):
        work.lacking[target] = lacking(target)
    found = [work.lacking[target] for target in sorted(targets)]
    return None if None in found else found[0]


def _arguments(work: _Work, stage: Stage, source: Path | None) -> dict[str, Any]:
    return stages.arguments_of(stage, work.folder.root, source, work.paths)


def _place(work: _Work, stage: Stage, arguments: dict[str, Any]) -> str:
    """Where the store keeps what the stage makes of its inputs as they are now."""
    manifest = stages.planned(stage.command, arguments, work.data.opener(arguments["config"]))
    return stages.place_of(manifest, stage.output)


def _existing(path: Path) -> Path:
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise from_os_error(error, f"cannot read the model {path}") from error
