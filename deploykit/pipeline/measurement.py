"""The one stage that measures all variants together, and what the pipeline adds to its report."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploykit.base.artifact import files_of, read_manifest, write_manifest
from deploykit.base.errors import AnswerNo, DeploykitError, Unavailable
from deploykit.base.hashing import value_sha256
from deploykit.base.progress import Progress
from deploykit.base.spec import parse_spec
from deploykit.config.recipe import ModelFile, Recipe
from deploykit.config.run import RunConfig
from deploykit.pipeline import stages
from deploykit.pipeline.folder import RunFolder
from deploykit.pipeline.plan import Plan

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
) -> tuple[dict[str, Any], bool]:
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
    from deploykit.reporting import read_report, write_report
    from deploykit.reporting.write import is_ours

    present = [name for name in recipe.variants if plan.made_by[name] in paths]
    if recipe.baseline not in present:
        why = failed[plan.made_by[recipe.baseline]]
        raise AnswerNo(f"the baseline {recipe.baseline} failed, nothing can be compared with it: {why.line()}")
    benchmark = recipe.benchmark_config(allow_code=config.allow_code)
    specs = [f"{name}={paths[plan.made_by[name]]}@{target_of(recipe, plan, name)}" for name in present]
    arguments = {"artifacts": specs, "output": folder.measure, "config": benchmark}
    stages.leave_stage_file(folder.stages / f"{STAGE}.yaml", "benchmark", arguments)
    key = measurement_key(recipe, plan, paths, failed, config, data)
    before = folder.store.find(key)
    entry = None if config.remeasure else before
    kept = entry is not None
    if entry is None:
        place = folder.clear_measure()
        result = stages.call("benchmark", arguments, force=True, progress=progress)
        report = _completed(result.report, recipe, plan, folder, paths, failed)
        write_report(report, place)
        _sign_again(place / "report.json")
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


def _sign_again(path: Path) -> None:
    """Let the manifest that the benchmark wrote speak of the completed report."""
    manifest = read_manifest(path)
    if manifest is not None:
        write_manifest(path, replace(manifest, files=files_of(path)))


def _completed(
    report: dict[str, Any],
    recipe: Recipe,
    plan: Plan,
    folder: RunFolder,
    paths: dict[str, Path],
    failed: dict[str, DeploykitError],
) -> dict[str, Any]:
    """The report with the recipe's name, each variant's steps and path, and the variants that were never made."""
    measured = {variant["name"]: variant for variant in report["variants"]}
    variants = []
    for name, variant in recipe.variants.items():
        stage = plan.made_by[name]
        if name in measured:
            fields = dict(measured[name])
            if fields.get("artifact"):
                fields["artifact"] = {**fields["artifact"], "path": _seen_from(folder.root, paths[stage])}
        else:
            engine = parse_spec(f"x@{variant.target}").target
            status = "skipped" if isinstance(failed[stage], Unavailable) else "failed"
            fields = {"name": name, "target": engine, "status": status, "reason": failed[stage].line()}
        variants.append({**fields, "steps": _steps(plan, name, folder, paths)})
    return {**report, "recipe": recipe.name, "variants": variants}


def _steps(plan: Plan, name: str, folder: RunFolder, paths: dict[str, Path]) -> list[dict[str, Any]]:
    steps = []
    for stage in plan.chain(name):
        made = paths.get(stage.name)
        step: dict[str, Any] = {"stage": stage.command}
        if stage.config is not None:
            step["command"] = f"deploykit {stage.command} --config stages/{stage.name}.yaml"
            step["config"] = stage.config.plain()
        if made is not None:
            step["output"], step["sha256"] = _seen_from(folder.root, made), stages.artifact_hash(made)
        steps.append(step)
    measured = {"stage": "benchmark", "command": f"deploykit benchmark --config stages/{STAGE}.yaml"}
    return [*steps, measured]


def _seen_from(root: Path, path: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()
