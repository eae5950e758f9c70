"""A model file → an fp32 ONNX file: exported, cleaned, checked, and verified against eager PyTorch before it is called done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deploykit.base.artifact import Manifest, write_model_manifest
from deploykit.base.atomic import scratch
from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.config.export import ExportConfig
from deploykit.evaluation.compare_runners import prepared
from deploykit.evaluation.split_images import Pictures, pictures_for
from deploykit.exporting.attempts import Work, first_that_agrees, stated_preprocessing
from deploykit.exporting.write_onnx import check_data_file, place

if TYPE_CHECKING:
    from deploykit.exporting.reference import ModuleRunner
    from deploykit.models import LoadedModel

PICTURES = 32


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
    from deploykit.exporting.steadiness import check_steady
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
    check_steady(loaded.module, example, one_by_one=batch is None and loaded.program is None)
    if _answers_the_same(eager, pictures, preprocessing, batch or 1):
        notes.append(
            "the network answers the same for different pictures (is its head still zero?): agreement says little"
        )
        progress.warn(notes[-1])
    with scratch(target) as folder:
        work = Work(loaded, eager, example, pictures, config, folder / target.name, progress)
        done, names = first_that_agrees(work)
        facts = {**done, "verified_on": pictures.source, "notes": [*loaded.notes, *notes]}
        files = place(folder, target, names)
    manifest = replace(manifest, task=loaded.task)
    return write_model_manifest(files, manifest, stated_preprocessing(preprocessing, config), loaded.classes, facts)


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
