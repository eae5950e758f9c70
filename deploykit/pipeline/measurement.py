"""The one stage that measures all variants together, with what the recipe knows of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from deploykit.base.errors import AnswerNo, DeploykitError, Unavailable
from deploykit.base.hashing import value_sha256
from deploykit.base.progress import Progress
from deploykit.base.spec import parse_spec
from deploykit.benchmarking.report import Made
from deploykit.config.recipe import ModelFile, Recipe
from deploykit.config.run import RunConfig
from deploykit.pipeline import stages
from deploykit.pipeline.folder import RunFolder
from deploykit.pipeline.plan import Plan
from deploykit.reporting.read import read_report
from deploykit.reporting.schema import Report, Status, Step
from deploykit.reporting.schema import Variant as ReportedVariant
from deploykit.reporting.write import is_ours

STAGE = "all.benchmark"


def measurement_key(
    recipe: Recipe,
    plan: Plan,
    paths: dict[str, Path],
    failed: dict[str, DeploykitError],
    config: RunConfig,
    data: stages.Data,
) -> str:
    """The key of the measurement: all artifacts with their names and targets, the data, the machine, what failed."""
    benchmark = recipe.benchmark_config(allow_code=config.allow_code)
    parents = [data.sha256(benchmark.split), recipe.name]
    for name in recipe.variants:
        stage = plan.made_by[name]
        digest = stages.artifact_hash(paths[stage]) if stage in paths else failed[stage].line()
        parents += [value_sha256([name, target_of(recipe, plan, name), digest, [one.name for one in plan.chain(name)]])]
    return stages.measurement_key_of(benchmark, parents)


def measure(
    recipe: Recipe,
    plan: Plan,
    folder: RunFolder,
    paths: dict[str, Path],
    failed: dict[str, DeploykitError],
    config: RunConfig,
    data: stages.Data,
    *,
    force: bool,
    progress: Progress,
) -> tuple[Report, bool]:
    """Measure all variants whose artifact was made, or take the stored measurement of exactly these.

    Args:
        recipe: what is run.
        plan: of its stages.
        folder: of the run.
        paths: stage → artifact.
        failed: stage → why it made none.
        config: of the run.
        data: of the recipe.
        force: replace report files that were changed by hand.
        progress: where it tells what it does.

    Returns:
        The report, and whether it was taken from the store.

    Raises:
        AnswerNo: the baseline has no artifact.
    """
    from deploykit.benchmarking.side_by_side import side_by_side
    from deploykit.commands.benchmark import STAGE_VERSION
    from deploykit.engines import resolve

    present = [name for name in recipe.variants if plan.made_by[name] in paths]
    if recipe.baseline not in present:
        why = failed[plan.made_by[recipe.baseline]]
        raise AnswerNo(f"the baseline {recipe.baseline} failed, nothing can be compared with it: {why.line()}")
    how = recipe.benchmark_config(allow_code=config.allow_code)
    how = how.but(accept_variants=tuple(name for name in how.accept_variants if name in present))
    specs = [f"{name}={paths[plan.made_by[name]]}@{target_of(recipe, plan, name)}" for name in present]
    arguments = {"artifacts": specs, "output": folder.measure, "config": how}
    stages.leave_stage_file(folder.stages / f"{STAGE}.yaml", "benchmark", arguments)
    key = measurement_key(recipe, plan, paths, failed, config, data)
    before = folder.store.find(key)
    entry = None if config.remeasure else before
    kept = entry is not None
    if entry is None:
        place = folder.clear_measure()
        side_by_side(
            [resolve(parse_spec(one), how.device) for one in specs],
            recipe.baseline,
            place,
            how,
            STAGE_VERSION,
            made=_made(recipe, plan, folder, paths, failed),
            progress=progress,
        )
        files = [path for path in sorted(place.rglob("*")) if path.is_file() and not path.name.startswith(".")]
        entry = folder.store.keep(key, STAGE, place, files)
        shutil.rmtree(place)
    else:
        progress.say(f"{STAGE}: kept, these variants were measured on this machine already")
    folder.store.restore(entry, folder.root, force=force, before=before, ours=is_ours)
    folder.drop_stale(set(entry.files))
    return read_report(folder.root / "report.json"), kept


def target_of(recipe: Recipe, plan: Plan, name: str) -> str:
    """A variant's target; PyTorch is told the architecture of the recipe's own model file, which others learn by export."""
    variant, model = recipe.variants[name], recipe.model
    target = variant.target
    own = isinstance(model, ModelFile) and plan.made_by[name] == "model.load" and variant.row.runs_models
    if not own or not isinstance(model, ModelFile) or model.arch is None or "arch=" in target:
        return target
    return f"{target}{',' if ':' in target else ':'}arch={model.arch}"


def _made(
    recipe: Recipe, plan: Plan, folder: RunFolder, paths: dict[str, Path], failed: dict[str, DeploykitError]
) -> Made:
    """What the recipe knows of its variants: how each came about, and why some have no artifact."""
    missing = {}
    for name, variant in recipe.variants.items():
        if (stage := plan.made_by[name]) not in paths:
            why = failed[stage]
            status: Status = "skipped" if isinstance(why, Unavailable) else "failed"
            missing[name] = ReportedVariant(name=name, target=variant.engine, status=status, reason=why.line())
    steps = {name: _steps(plan, name, folder, paths) for name in recipe.variants}
    return Made(recipe.name, folder.root, steps, missing)


def _steps(plan: Plan, name: str, folder: RunFolder, paths: dict[str, Path]) -> list[Step]:
    steps = []
    for stage in plan.chain(name):
        made, config = paths.get(stage.name), stage.config
        steps.append(
            Step(
                stage=stage.command,
                command=None if config is None else f"deploykit {stage.command} --config stages/{stage.name}.yaml",
                output=None if made is None else Path(os.path.relpath(made, folder.root)).as_posix(),
                sha256=None if made is None else stages.artifact_hash(made),
                config=None if config is None else config.plain(),
            )
        )
    return [*steps, Step(stage="benchmark", command=f"deploykit benchmark --config stages/{STAGE}.yaml")]
