"""The time of each layer: of one engine (``inspect --times``), of variants side by side, of before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from deploykit.base.artifact import Manifest, Parent, already_made, files_of, write_manifest
from deploykit.base.atomic import make_folder
from deploykit.base.command_result import Result
from deploykit.base.engine_layers import TimedLayer
from deploykit.base.errors import BadInput, DeploykitError
from deploykit.base.hashing import file_sha256
from deploykit.base.overrides import Stated
from deploykit.base.progress import SILENT, Progress
from deploykit.base.runner import Profiled
from deploykit.base.spec import Spec
from deploykit.base.targets import Target, target_names, target_of
from deploykit.engines.random_input import Shapes, input_shapes, random_input, rows_of
from deploykit.exporting.check_onnx import refuse_unsound
from deploykit.quantization.lint.explain_audit import LEFT, audit_and_left

if TYPE_CHECKING:
    import numpy as np

    from deploykit.base.runner import Runner
    from deploykit.reporting.layers import LayerTable

STAGE_VERSION = 1
ELSE = "changes of layout, Q and DQ, and what comes before the first layer"

Times = dict[tuple[str, str], float]
"""(layer, operator) → microseconds a call."""


@dataclass(frozen=True)
class LayersResult(Result):
    """What was profiled.

    Attributes:
        tables: one, or one per variant.
        files: that were written.
    """

    tables: list[LayerTable]
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields."""
        return {"tables": [one.plain() for one in self.tables], "files": [str(path) for path in self.files]}

    def summary(self) -> str:
        """The layers that take most."""
        from deploykit.reporting.layers import in_words

        return "\n".join([*(in_words(one) for one in self.tables), *(f"wrote {path}" for path in self.files)])


def layers(
    sources: Sequence[Path], output: Path, *, threads: int = 1, force: bool = False, progress: Progress = SILENT
) -> LayersResult:
    """Profile the engines of one run folder beside each other, or of two, each variant before and after.

    A layer is a convolution or matrix product with all that follows it up to the next; engines fuse these anyway. The
    profiles are made here and now, of the very files that the reports speak of: ONNX Runtime's own on the CPU,
    OpenVINO's and TensorRT's for their engines. Profiling slows the engines down, so that the sums are above the
    latencies of the report.

    Args:
        sources: one run folder, or two: before and after.
        output: folder for ``layers.html``, ``layers.md`` and ``layers.json``.
        threads: of the CPU.
        force: replace files of other makers.
        progress: where it shows.

    Raises:
        BadInput: more than two folders, no engine that can be profiled, artifacts that are missing or changed.
    """
    from deploykit.benchmarking.run_folder import is_run, specs_of_run
    from deploykit.reporting.layers import NAMES, layer_table, write_layers
    from deploykit.reporting.write import refuse_foreign_pages

    if len(sources) > 2:
        raise BadInput("layers are compared between two run folders", got=len(sources), expected="one, or two")
    for place in sources:
        if not is_run(place):
            raise BadInput(f"{place} is no run folder", expected="a folder with report.json and its artifacts")
    make_folder(output)
    if not force:
        refuse_foreign_pages(output, NAMES[:2])
        already_made(output / NAMES[2], "", force=False)
    found = [_profiled(specs_of_run(place), threads, progress) for place in sources]
    if len(found) == 1:
        if not found[0]:
            raise BadInput(
                f"no variant of {sources[0]} can be profiled",
                expected=f"a target of {', '.join(target_names(_tells_times))}",
            )
        tables = [layer_table("Variants", found[0])]
    else:
        common = [name for name in found[0] if name in found[1]]
        if not common:
            raise BadInput("the two run folders have no variant in common that can be profiled")
        tables = [layer_table(name, {"before": found[0][name], "after": found[1][name]}) for name in common]
    files = write_layers(tables, output)
    parents = tuple(Parent("report", file_sha256(place / "report.json")) for place in sources)
    write_manifest(output / NAMES[2], Manifest("layers", files_of(*files), "report", STAGE_VERSION, parents=parents))
    return LayersResult(tables, tuple(files))


def _tells_times(row: Target) -> bool:
    return row.layer_times == "profile"


def _profiled(specs: Sequence[Spec], threads: int, progress: Progress) -> dict[str, Times]:
    found: dict[str, Times] = {}
    with progress.task("profile", total=len(specs), unit="engines") as task:
        for spec in specs:
            if spec.target is not None and _tells_times(target_of(spec.target)):
                try:
                    found[spec.name] = profile(spec, threads)
                except DeploykitError as error:
                    progress.warn(f"{spec.name} is not profiled: {error.line()}")
            else:
                progress.say(f"{spec.name} is not profiled: {spec.target} tells no times of its layers")
            task.advance(1)
    return found


def profile(spec: Spec, threads: int) -> Times:
    """Median microseconds of each layer of an engine, on one procedural picture.

    Args:
        spec: with a target that tells them.
        threads: of the CPU.

    Raises:
        BadInput: the file is broken.
        Unavailable: this machine lacks its engine.
    """
    from deploykit.engines import open_runner

    with open_runner(spec, threads=threads) as runner:
        rows = profiled(runner).timed_layers(input_for(runner, {}))
    if spec.path.suffix.lower() == ".onnx":
        return _of_nodes(spec, rows)
    return {(row["name"], ""): row["time_us"] for row in rows}  # its own names are all there is


def profiled(runner: Runner) -> Profiled:
    """The runner, which tells the time of each layer.

    Raises:
        BadInput: its engine does not.
    """
    if not isinstance(runner, Profiled):
        raise BadInput(
            f"{runner.target} tells no times of its layers",
            expected="an .onnx file or an engine",
            fix=f"Export it first: deploykit export {runner.spec.path}.",
        )
    return runner


def input_for(runner: Runner, named: Shapes) -> dict[str, np.ndarray]:
    """What the engine serves best: procedural images where its preprocessing is known, else random numbers.

    ``named``: the shapes of its inputs, where they are free.

    Raises:
        BadInput: nothing says a size, or it contradicts the graph.
    """
    from deploykit.data import prepare, synthetic_images

    shapes = input_shapes(runner, named)
    known = runner.preprocessing
    if known is None or len(shapes) != 1 or named:
        return random_input(runner.inputs, shapes)
    name, shape = next(iter(shapes.items()))
    return {name: prepare(synthetic_images(shape[0], known.size, 0, known.channels), known)}


def _of_nodes(spec: Spec, rows: Sequence[TimedLayer]) -> Times:
    """Times of an engine's layers, put together by the nodes of the file that each does."""
    import onnx_ir as ir

    from deploykit.quantization.layer_profile import by_layer, owners

    times: dict[tuple[str, str], float] = {}
    for row in rows:
        key = (row["nodes"][0] if row["nodes"] else "", row["type"])
        times[key] = times.get(key, 0.0) + row["time_us"]
    graph = ir.load(spec.path)
    kinds = {node.name or "": node.op_type for node in graph.graph}
    found, rest = by_layer(times, owners(graph))
    return {(name, kinds.get(name, "")): time for name, time in found.items()} | {(ELSE, ""): rest}


class ShownLayer(TimedLayer):
    """One layer of an engine with its time and its share of all."""

    share: float


def timed(
    path: Path,
    target: str | None,
    threads: int | None,
    stated: Stated,
    allow_code: bool,
    shapes: Shapes = MappingProxyType({}),
) -> tuple[Mapping[str, object], list[ShownLayer]]:
    """Facts of the engine, and its layers in the order they run with their time and their share of all.

    Args:
        path: of an ``.onnx``, ``.xml`` or a plan.
        target: that runs it; None: the manifest's, or the file's natural one.
        threads: of the CPU; None on a GPU.
        stated: of the file.
        shapes: of inputs whose sizes are free.
        allow_code: a runtime inside a plan may run.

    Raises:
        BadInput: the target tells no times, or the file is broken.
        Unavailable: this machine lacks the target.
    """
    from deploykit.engines import open_runner

    if path.suffix.lower() == ".onnx":
        refuse_unsound(path, finite=False)
    with open_runner(Spec(path.stem, path, target), threads=threads, stated=stated, allow_code=allow_code) as runner:
        told = profiled(runner)
        x = input_for(runner, shapes)
        rows = told.timed_layers(x)
        found, left = audit_and_left(runner)
    total = sum(row["time_us"] for row in rows) or 1.0  # all below the clock's step
    shown: list[ShownLayer] = [
        {**row, "time_us": round(row["time_us"], 2), "share": round(row["time_us"] / total, 4)} for row in rows
    ]
    facts = {
        "timed_on": {
            "target": runner.target,
            "batch": rows_of({name: one.shape for name, one in x.items()}),
            "threads": runner.threads,
            "layers": len(rows),
        },
        "layers_us": round(total, 1),
        "engine": found,
        LEFT: left,
    }
    return facts, shown
