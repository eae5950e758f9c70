"""The exporters in turn, until the file of one is checked and verified, with the place of what goes wrong named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.base.spec import Spec
from deploykit.base.targets import ORT_CPU
from deploykit.config.export import ExportConfig
from deploykit.evaluation.compare_runners import BATCHES, parity_of, prepared
from deploykit.evaluation.parity import Parity
from deploykit.evaluation.snr import budget_of
from deploykit.evaluation.split_images import Pictures
from deploykit.exporting.bisect import Pair, first_parting
from deploykit.exporting.clean import clean
from deploykit.exporting.embed import embed_preprocessing, write_metadata
from deploykit.exporting.exporters import EXPORTERS, export_with
from deploykit.exporting.taps import GraphTaps, ModuleTaps, match_module

if TYPE_CHECKING:
    from torch import Tensor

    from deploykit.exporting.reference import ModuleRunner
    from deploykit.models import LoadedModel

OLDEST_DYNAMO_OPSET = 18


@dataclass(frozen=True)
class Work:
    """One export: the network, what it is traced and verified with, and the file to write."""

    loaded: LoadedModel
    eager: ModuleRunner
    example: Tensor
    pictures: Pictures
    config: ExportConfig
    path: Path
    progress: Progress


def first_that_agrees(work: Work) -> tuple[dict[str, object], list[str]]:
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
            reason = f"the {exporter} exporter's numbers disagree with PyTorch's: {'; '.join(parity.reasons)}{_parting(work)}"
        except AnswerNo as error:
            reason = (error.what if error.got is None else error.line()) + _user_of_operator(error, work)
        tried.append({"exporter": exporter, "reason": reason})
        for left in work.path.parent.iterdir():
            left.unlink()
    raise AnswerNo("cannot export: " + " · ".join(one["reason"] for one in tried))


def _attempt(exporter: str, work: Work) -> tuple[dict[str, object], list[str], Parity]:
    from deploykit.exporting.write_onnx import check, count_nodes, write

    loaded, eager, config, path = work.loaded, work.eager, work.config, work.path
    if exporter == "dynamo" and config.opset < OLDEST_DYNAMO_OPSET:
        raise AnswerNo(f"the dynamo exporter writes no opset below {OLDEST_DYNAMO_OPSET}, {config.opset} was asked for")
    names = [output.name for output in eager.outputs]
    batch = config.batch
    frozen = _frozen(work) if exporter == "torchscript" and loaded.program is None else []
    with work.progress.task(f"export ({exporter})"):
        graph, warned = export_with(
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
        preprocessing = stated_preprocessing(eager.preprocessing, config)
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
    for line in (*frozen, *(one for one in warned if one.partition(" ")[0] not in " ".join(frozen))):
        work.progress.warn(line)
    parity = _verify(work)
    facts: dict[str, object] = {
        "opset": config.opset,
        "batch": batch,
        "outputs": names,
        "nodes": count_nodes(path),
        "batch_norms_left": left,
        "frozen": frozen,
        "parity": parity.to_dict(),
    }
    return facts, [file.name for file in files], parity


def _verify(work: Work) -> Parity:
    """Parity on the images, and where that holds on darker, brighter and random ones, if not there."""
    from deploykit.engines import open_runner

    config, path, images = work.config, work.path, work.pictures.images
    sizes = BATCHES if config.batch == "dynamic" else (config.batch,)
    with open_runner(Spec(path.stem, path, ORT_CPU), threads=config.threads) as candidate:
        parity = parity_of(work.eager, candidate, images, sizes, "fp32", work.progress)
        if parity.ok:
            lit = parity_of(work.eager, candidate, other_light(images[0]), sizes[:1], "fp32")
            if not lit.ok:
                reasons = tuple(f"on dark, bright and random images: {reason}" for reason in lit.reasons)
                return replace(lit, reasons=reasons)
    return parity


def other_light(image: np.ndarray) -> list[np.ndarray]:
    """An image ``[H, W, C]`` of integers as it is in the dark and in glaring light, and noise in its place."""
    most = np.iinfo(image.dtype).max if image.dtype.kind in "ui" else 1
    noise = np.random.default_rng(0).integers(0, 256, image.shape) / 255 * most
    return [(image / 8).astype(image.dtype), (most - (most - image) / 8).astype(image.dtype), noise.astype(image.dtype)]


def _frozen(work: Work) -> list[str]:
    """The lines whose decision by an image's values is the same for all that were tried, which a trace keeps.

    Raises:
        AnswerNo: at some line it is not: the file would be wrong for some images.
    """
    import torch

    from deploykit.exporting.decisions import decisions, probes

    assert work.eager.preprocessing is not None
    images = torch.from_numpy(prepared(list(work.pictures.images[:4]), work.eager.preprocessing))
    inputs = [x.repeat(len(work.example) if work.config.batch != "dynamic" else 1, 1, 1, 1) for x in probes(images)]
    found = decisions(work.loaded.module, inputs)
    for line, values in found.items():
        if len(values) > 1:
            one, other = (_first_different(values[place], values[1 - place]) for place in (0, 1))
            raise AnswerNo(
                f"the torchscript exporter would keep for all images what {line} decides by the values of one "
                f"({one} for one image, {other} for another): write it with torch.where, or leave it outside of the model"
            )
    return [
        f"{line} decides by the image's values, and the file always decides as for the {len(inputs)} inputs tried "
        f"({_first_different(values[0], ())})"
        for line, values in found.items()
    ]


def _first_different(values: Sequence[object], others: Sequence[object]) -> str:
    """The first value that the other list does not have there, in short."""
    place = next((i for i, one in enumerate(values) if i >= len(others) or str(one) != str(others[i])), 0)
    value = values[place] if place < len(values) else "nothing"
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:40]


def _parting(work: Work) -> str:
    """Where the file just written leaves PyTorch, as the end of a sentence; empty where that cannot be told."""
    if work.loaded.program is not None or work.config.embed_preprocessing or work.eager.preprocessing is None:
        return ""
    x = np.repeat(prepared(work.pictures.images[:1], work.eager.preprocessing), len(work.example), axis=0)
    try:
        mine, theirs = ModuleTaps(work.loaded.module, x), GraphTaps(work.path, x, work.config.threads)
        pairs = [
            Pair(one.tensor, two.tensor, two.node, two.op_type, two.module)
            for one, two in match_module(mine.taps, theirs.taps)
        ]
        parting = first_parting(pairs, mine, theirs, budget_of("fp32").snr_db)
    except BadInput:
        return ""
    return f"; {parting.line()}" if parting is not None else ""


def _user_of_operator(error: AnswerNo, work: Work) -> str:
    """Where the network uses the operator that an exporter does not know, as the end of a sentence; else empty."""
    named = re.search(r"aten(?:\.|::)(\w+)", error.what)
    if named is None or work.loaded.program is not None:
        return ""
    from deploykit.exporting.module_calls import users_of

    users = users_of(work.loaded.module, work.example, named.group(1))
    return f" (used by {', '.join(users[:3])})" if users else ""


def stated_preprocessing(preprocessing: Preprocessing, config: ExportConfig) -> Preprocessing:
    """The preprocessing that the exported file states."""
    return replace(preprocessing, embedded=config.embed_preprocessing, layout=None)
