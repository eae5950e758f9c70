"""A model file → an fp32 ONNX file: exported, cleaned, checked, and verified against eager PyTorch before it is called done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deploykit.base.artifact import Manifest, write_model_manifest
from deploykit.base.atomic import scratch
from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.base.spec import Spec
from deploykit.base.targets import ORT_CPU
from deploykit.config.export import ExportConfig
from deploykit.evaluation.compare_runners import BATCHES, parity_of, prepared
from deploykit.evaluation.parity import Parity
from deploykit.evaluation.split_images import Pictures, pictures_for
from deploykit.exporting.clean import clean
from deploykit.exporting.embed import embed_preprocessing, write_metadata
from deploykit.exporting.exporters import EXPORTERS, export_with
from deploykit.exporting.write_onnx import check_data_file, place

if TYPE_CHECKING:
    from torch import Tensor

    from deploykit.exporting.reference import ModuleRunner
    from deploykit.models import LoadedModel

PICTURES = 32
OLDEST_DYNAMO_OPSET = 18


def float_graph(
    source: Path, folder: Path, config: ExportConfig, progress: Progress
) -> tuple[Path, Mapping[str, object] | None]:
    """A model as a float32 ONNX file: itself where it is one, else exported or converted into a scratch folder.

    Returns the file, and the facts of its export where that was done here.
    """
    if source.suffix.lower() == ".onnx":
        from deploykit.exporting.check_onnx import refuse_unsound
        from deploykit.exporting.foreign_onnx import standard_file

        refuse_unsound(source)
        return standard_file(source, folder, config.stated, progress), None
    path = folder / f"{source.stem}.onnx"
    passing = Manifest(kind="onnx", files={}, stage="export", version=0, precision="fp32")
    return path, export_onnx(source, path, config, passing, progress=progress).facts


def export_onnx(
    source: Path, target: Path, config: ExportConfig, manifest: Manifest, *, force: bool = False, progress: Progress
) -> Manifest:
    """Export ``source`` in fp32 to ``target``.

    Returns the manifest as written.

    Raises:
        BadInput: the model cannot be read, has several inputs, no known size.
        AnswerNo: no exporter gives a file that agrees with PyTorch; the line names each one's reason.
    """
    import torch

    from deploykit.exporting.reference import ModuleRunner
    from deploykit.models import load_model

    check_data_file(target, force=force)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    loaded = load_model(source, arch=config.arch, stated=config.stated, allow_code=config.allow_code)
    loaded.tell(progress)
    preprocessing = _preprocessing(loaded, source)
    notes = _prepare(loaded, progress)
    pictures = _pictures(loaded, preprocessing, config, progress)
    _check_program(loaded, config, source)
    batch = None if config.batch == "dynamic" else config.batch
    example = torch.rand(batch or 2, *preprocessing.shape, generator=torch.Generator().manual_seed(config.seed))
    eager = ModuleRunner(loaded.module, example, preprocessing, loaded.classes, batch, loaded.task)
    if _answers_the_same(eager, pictures, preprocessing, batch or 1):
        notes.append(
            "the network answers the same for different pictures (is its head still zero?): agreement says little"
        )
        progress.warn(notes[-1])
    with scratch(target) as folder:
        work = _Work(loaded, eager, example, pictures, config, folder / target.name, progress)
        done, names = _first_that_agrees(work)
        facts = {**done, "verified_on": pictures.source, "notes": [*loaded.notes, *notes]}
        files = place(folder, target, names)
    manifest = replace(manifest, task=loaded.task)
    return write_model_manifest(files, manifest, _given(preprocessing, config), loaded.classes, facts)


def _answers_the_same(eager: ModuleRunner, pictures: Pictures, preprocessing: Preprocessing, batch: int) -> bool:
    """Whether the outputs for the first and the last picture are equal although these are not."""
    first, last = (np.repeat(prepared([pictures.images[i]], preprocessing), batch, axis=0) for i in (0, -1))
    return not np.array_equal(first, last) and np.array_equal(eager(first), eager(last))


def _preprocessing(loaded: LoadedModel, source: Path) -> Preprocessing:
    if loaded.preprocessing is None:
        raise BadInput(
            f"{source} does not carry its input size", expected="a size in pixels", fix="Name it with --size."
        )
    return loaded.preprocessing


def _check_program(loaded: LoadedModel, config: ExportConfig, source: Path) -> None:
    """Raise :class:`BadInput` where an exported program takes another batch than asked for."""
    from deploykit.exporting.reference import fixed_batch

    fixed = fixed_batch(loaded.program) if loaded.program is not None else None
    if fixed is not None and config.batch != fixed:
        raise BadInput(
            f"{source} takes batch size {fixed} only",
            got=f"--batch {config.batch}",
            fix=f"Pass --batch {fixed}, or export the program again with a dynamic batch.",
        )


def _given(preprocessing: Preprocessing, config: ExportConfig) -> Preprocessing:
    """The preprocessing that the exported file states."""
    return replace(preprocessing, embedded=config.embed_preprocessing, layout=None)


def _prepare(loaded: LoadedModel, progress: Progress) -> list[str]:
    """Make the module exportable, in place; what was decided is said and returned."""
    import torch

    from deploykit.exporting.reference import check_inputs
    from deploykit.models.detection import RawHeads, is_single_stage

    notes = []
    if is_single_stage(loaded.module):
        loaded.module = RawHeads(loaded.module).eval()
        notes.append("detector: backbone and head are exported; resizing, anchors, decoding and NMS stay outside")
        progress.say(notes[-1])
    check_inputs(loaded.module)
    if loaded.program is None:
        loaded.module.eval().to(memory_format=torch.contiguous_format)
        loaded.module.requires_grad_(False)
    return notes


def _pictures(loaded: LoadedModel, preprocessing: Preprocessing, config: ExportConfig, progress: Progress) -> Pictures:
    return pictures_for(
        data=config.data,
        samples=loaded.samples["images"] if loaded.samples else None,
        size=preprocessing.size,
        channels=preprocessing.channels,
        limit=PICTURES,
        seed=config.seed,
        require_real=config.require_real,
        allow_code=config.allow_code,
        progress=progress,
    )


@dataclass(frozen=True)
class _Work:
    """One export: the network, what it is traced and verified with, and the file to write."""

    loaded: LoadedModel
    eager: ModuleRunner
    example: Tensor
    pictures: Pictures
    config: ExportConfig
    path: Path
    progress: Progress


def _first_that_agrees(work: _Work) -> tuple[dict[str, object], list[str]]:
    """Try the exporters in order until one gives a file that is checked and verified: its facts, and the files' names.

    Raises:
        AnswerNo: none does; the line holds every reason.
    """
    order = EXPORTERS if work.config.exporter == "auto" else (work.config.exporter,)
    tried: list[dict[str, str]] = []
    for exporter in order:
        try:
            facts, names, parity = _attempt(exporter, work)
            if parity.ok:
                if tried:
                    work.progress.warn(f"exported with {exporter}, because {tried[0]['reason']}")
                return {"exporter": exporter, "tried": tried, **facts}, names
            reason = f"the {exporter} exporter's numbers disagree with PyTorch's: {'; '.join(parity.reasons)}"
        except AnswerNo as error:
            reason = error.what if error.got is None else error.line()
        tried.append({"exporter": exporter, "reason": reason})
        for left in work.path.parent.iterdir():
            left.unlink()
    raise AnswerNo("cannot export: " + " · ".join(one["reason"] for one in tried))


def _attempt(exporter: str, work: _Work) -> tuple[dict[str, object], list[str], Parity]:
    from deploykit.exporting.write_onnx import check, count_nodes, write

    loaded, eager, config, path = work.loaded, work.eager, work.config, work.path
    if exporter == "dynamo" and config.opset < OLDEST_DYNAMO_OPSET:
        raise AnswerNo(f"the dynamo exporter writes no opset below {OLDEST_DYNAMO_OPSET}, {config.opset} was asked for")
    names = [output.name for output in eager.outputs]
    batch = config.batch
    with work.progress.task(f"export ({exporter})"):
        graph = export_with(
            exporter,
            loaded.program if loaded.program is not None else loaded.module,
            work.example,
            names,
            config.opset,
            dynamic=batch == "dynamic",
            folder=path.parent,
        )
        left = clean(graph, frozenset(name for name, _ in loaded.module.named_modules()))
        assert eager.preprocessing is not None
        preprocessing = _given(eager.preprocessing, config)
        write_metadata(
            graph.metadata_props,
            preprocessing=preprocessing,
            classes=loaded.classes,
            task=loaded.task,
            precision="fp32",
            lineage=loaded.lineage,
        )
        if config.embed_preprocessing:
            embed_preprocessing(graph, preprocessing)
        files = write(graph, path)
        del graph
        check(path, opset=config.opset, batch="batch" if batch == "dynamic" else batch, outputs=names)
    if left:
        work.progress.say(f"{left} BatchNorms stay in the graph: no convolution stands directly before them")
    parity = _verify(work)
    facts: dict[str, object] = {
        "opset": config.opset,
        "batch": batch,
        "outputs": names,
        "nodes": count_nodes(path),
        "batch_norms_left": left,
        "parity": parity.to_dict(),
    }
    return facts, [file.name for file in files], parity


def _verify(work: _Work) -> Parity:
    from deploykit.engines import open_runner

    config, path = work.config, work.path
    sizes = BATCHES if config.batch == "dynamic" else (config.batch,)
    with open_runner(Spec(path.stem, path, ORT_CPU), threads=config.threads) as candidate:
        return parity_of(work.eager, candidate, work.pictures.images, sizes, "fp32", work.progress)
