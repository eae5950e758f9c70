"""The variants of a run folder as things to measure again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deploykit.base.artifact import artifact_sha256, read_manifest
from deploykit.base.errors import BadInput
from deploykit.base.spec import Spec, parse_spec
from deploykit.reporting.read import read_report


def is_run(path: Path) -> bool:
    """Whether ``path`` is a folder with a report."""
    return path.is_dir() and (path / "report.json").is_file()


def listed(artifacts: Sequence[str | Spec | Path] | str | Spec | Path) -> Sequence[str | Spec | Path]:
    """The artifacts as a list, where one stands for itself."""
    return [artifacts] if isinstance(artifacts, str | Spec | Path) else artifacts


def run_folder_of(artifacts: Sequence[str | Spec | Path]) -> Path | None:
    """The run folder that is meant, where it is all that was named."""
    if len(artifacts) != 1 or isinstance(artifacts[0], Spec):
        return None
    path = Path(artifacts[0])
    return path if is_run(path) else None


def unique_specs(artifacts: Sequence[str | Spec | Path]) -> list[Spec]:
    """The artifacts taken apart.

    Raises:
        BadInput: none, or two of one name.
    """
    specs = [one if isinstance(one, Spec) else parse_spec(str(one)) for one in artifacts]
    if not specs:
        raise BadInput("no artifact to evaluate", expected="[NAME=]PATH[@TARGET]")
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"two artifacts are called {name!r}", fix=f"Name them: {name}-a=PATH {name}-b=PATH.")
    return specs


def specs_of_run(folder: Path, *, inside: Path | None = None) -> list[Spec]:
    """The variants that a report measured, with target, options and the very files it speaks of.

    Args:
        folder: with ``report.json``.
        inside: refuse files outside this folder (of an unpacked bundle).

    Raises:
        BadInput: no report, or an artifact that is missing or not the file any more that was measured.
    """
    report = read_report(folder)
    options = _options(folder)
    found = []
    for variant in report.variants:
        artifact = variant.artifact
        if variant.status == "skipped" or artifact is None:
            continue
        name, path = variant.name, (folder / artifact.path).resolve()
        if inside is not None and not path.is_relative_to(inside.resolve()):
            raise BadInput(f"{name} of {folder.name} lies outside of it", got=artifact.path, fix="Bundle it too.")
        if not path.is_file():
            raise BadInput(
                f"{name} of {folder}: {artifact.path} is not there", fix="Bring the artifact, or build it again."
            )
        if artifact_sha256(path) != artifact.sha256:
            raise BadInput(
                f"{name} of {folder}: {artifact.path} is not the file any more that was measured",
                got=f"sha256 {artifact_sha256(path)[:12]}",
                expected=artifact.sha256[:12],
                fix="Measure that folder again, or restore the file.",
            )
        found.append(Spec(name, path, variant.target, options.get(name, {})))
    if not found:
        raise BadInput(f"{folder} holds no variant that could be measured")
    return found


def _options(folder: Path) -> dict[str, dict[str, str]]:
    """Variant → options of its target, as the manifest of the report recorded them."""
    manifest = read_manifest(folder / "report.json")
    named = manifest.config.get("artifacts", []) if manifest else []
    specs = [parse_spec(one) for one in named if isinstance(one, str)]
    return {spec.name: spec.options for spec in specs}
