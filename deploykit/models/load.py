"""Load a model file of any kind into a network that is ready to run, whatever its tensors are wrapped in."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from deploykit.base.artifact import LineageEntry
from deploykit.base.checkpoint import Arch, ModelFile, check_file, is_model_file, parse_model_file, read_tensors
from deploykit.base.errors import BadInput
from deploykit.base.hashing import file_sha256
from deploykit.base.overrides import NOTHING_STATED, Stated, assumption
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.base.task import Task
from deploykit.base.tensor_spec import TensorSpec
from deploykit.models.build import arch_text, build, parse_arch, without_initialisation
from deploykit.models.exported_program import load_program
from deploykit.models.module_outputs import input_channels, task_of_module
from deploykit.models.pretrained import default_preprocessing, official_arch, official_weights, weights_preprocessing
from deploykit.models.recognize import how_to_name, named, recognise
from deploykit.models.save import check_finite
from deploykit.models.sources import stated_by, torchvision_names

AVERAGED = ("ema_state_dict", "state_dict_ema", "model_ema", "ema", "averaged")
PLAIN = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "ema_model.", "backbone.")

_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")


def unwrap(content: Any, path: Path, *, cast: bool = True) -> tuple[dict[str, Tensor], list[str]]:
    """The bare state dict inside ``content``, in fp32 unless ``cast`` is off, and notes of what was done to find it.

    A moving average is preferred to the raw weights where both are there. Prefixes are taken off as long as all
    tensors share one; a Lightning checkpoint's other tensors (metrics, loss weights) go with the prefix.

    Raises:
        BadInput: there is no state dict in it.
    """
    notes: list[str] = []
    tensors = _find(content, notes)
    if tensors is None:
        raise BadInput(
            f"{path} holds no state dict",
            got=_described(content),
            expected="tensors by name, or a dictionary with them under state_dict, model, model_state_dict or ema",
        )
    tensors = _without_prefixes(tensors, notes)
    tensors = {_OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in tensors.items()}
    return (_single_precision(tensors, notes) if cast else tensors), notes


def _find(content: Any, notes: list[str], depth: int = 0) -> dict[str, Tensor] | None:
    if not isinstance(content, Mapping) or not content or depth > 4:
        return None
    if all(isinstance(key, str) for key in content):
        tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
        if tensors and (len(tensors) == len(content) or not any(key in content for key in AVERAGED + PLAIN)):
            return tensors if any("." in key or len(tensors) == len(content) for key in tensors) else None
    for key in AVERAGED + PLAIN:
        if (found := _find(content.get(key), notes, depth + 1)) is not None:
            if depth == 0 and key in AVERAGED:
                notes.append(f"uses the moving average of the weights ({key})")
            return found
    return None


def _without_prefixes(tensors: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    taken: list[str] = []
    while True:
        for prefix in PREFIXES:
            inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            outside = [name for name in tensors if not name.startswith(prefix)]
            if inside and all(tensors[name].ndim <= 1 and "." not in _stem(name) for name in outside):
                if outside:
                    notes.append(f"left out {len(outside)} tensors beside the network: {', '.join(outside[:3])}")
                tensors = inside
                taken.append(prefix)
                break
        else:
            if taken:
                notes.append(f"took the prefix {''.join(taken)!r} off the tensors' names")
            return tensors


def _stem(name: str) -> str:
    """The module of a tensor: ``criterion.weight`` → ``criterion``; a layer nested deeper belongs to a network."""
    return name.rpartition(".")[0]


def _single_precision(tensors: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    kinds = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} - {torch.float32}
    if kinds:
        names = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        notes.append(f"weights cast from {names} to float32")
    return {
        name: tensor.detach().to(torch.float32) if tensor.is_floating_point() else tensor.detach()
        for name, tensor in tensors.items()
    }


def _described(content: Any) -> str:
    if isinstance(content, Mapping):
        keys = ", ".join(str(key) for key in list(content)[:6])
        return f"a dictionary with {keys or 'nothing'}{', …' if len(content) > 6 else ''}"
    return type(content).__name__


@dataclass
class LoadedModel:
    """A model file, loaded.

    Attributes:
        module: in eval mode, fp32, on the CPU.
        arch: how it was built.
        preprocessing: None where the file does not carry it and nothing about the architecture tells it.
        classes: names in the order of the outputs, or None where not known.
        task: what its outputs mean.
        samples: ``{"images": uint8 [N, H, W, C], "labels": int64 [N]}``, or None.
        lineage: what was done to it, oldest first.
        notes: assumptions and changes the user should hear about.
        sha256: of the file.
        doubts: those of the notes that may be wrong, which is warned of.
        program: the ``torch.export.ExportedProgram`` of a ``.pt2``, whose ``module`` is its unlifted graph module.
        masks: tensor name → bool mask, or None.
        ranges: activation ranges by module name, or None.
    """

    module: nn.Module
    arch: Arch
    preprocessing: Preprocessing | None
    classes: tuple[str, ...] | None
    samples: dict[str, np.ndarray] | None
    lineage: list[LineageEntry]
    notes: list[str]
    sha256: str
    task: Task = "classify"
    doubts: list[str] = field(default_factory=list)
    program: Any = None
    masks: dict[str, Tensor] | None = field(default=None)
    ranges: Mapping[str, Any] | None = field(default=None)

    def tell(self, progress: Progress) -> None:
        """Say the notes, and warn of those that may be wrong."""
        for note in self.notes:
            (progress.warn if note in self.doubts else progress.say)(note)


@runtime_checkable
class RunsModel(Protocol):
    """A runner that runs a model file's own module."""

    @property
    def loaded(self) -> LoadedModel:
        """The file, with its module."""


def load_model(
    path: Path | str,
    *,
    arch: str | None = None,
    stated: Stated = NOTHING_STATED,
    allow_code: bool = False,
    finite: bool = True,
    target: str | None = None,
) -> LoadedModel:
    """Load a deploykit ``.pt``, a bare or wrapped state dict, a ``.safetensors`` or a ``.pt2`` file.

    ``arch``: what the tensors are, where recognition cannot tell (``torchvision:resnet18``). ``stated``: what is said of
    the file, which comes before what it carries. ``finite``: refuse weights that are NaN or infinite.
    ``target``: that it is opened for; its option ``arch`` is then named where ``arch`` would help.

    Raises:
        BadInput: not a model file, not recognised, ambiguous, not strictly loadable, or with NaN weights.
        Unavailable: it is a timm network and timm is not installed.
    """
    path = check_file(Path(path))
    if path.suffix.lower() == ".pt2":
        return _program(path, stated)
    content = read_tensors(path)
    if is_model_file(content):
        file = parse_model_file(content, path)
        if arch is not None and _contradicts(parse_arch(arch), file.arch):
            raise BadInput(
                f"{path} carries its own architecture", got=arch, expected=arch_text(file.arch), fix="Leave arch out."
            )
        return _own(path, file, stated, allow_code, finite)
    return _foreign(path, content, arch, stated, allow_code, finite, target)


def _contradicts(named: Arch, carried: Arch) -> bool:
    """Whether the user named another network, or other arguments, than the file says."""
    different = [key for key, value in named.kwargs.items() if carried.kwargs.get(key) != value]
    return str(named) != str(carried) or bool(different)


def _program(path: Path, stated: Stated) -> LoadedModel:
    program, module, shape, given, notes = load_program(path)
    preprocessing = stated.of_input(
        TensorSpec("input", "float32", tuple(max(0, dim) or "free" for dim in shape), "NCHW")
    )
    said = assumption(preprocessing, path.name)
    doubts = [] if said is None else [said]
    outputs = given[1] if len(given) == 2 else None
    return LoadedModel(
        module=module,
        arch=Arch("program", path.stem, {} if outputs is None else {"num_classes": outputs}),
        preprocessing=preprocessing,
        classes=stated.names(outputs, str(path)),
        samples=None,
        lineage=[],
        notes=[*notes, *doubts],
        doubts=doubts,
        sha256=file_sha256(path),
        task=stated.task or task_of_module(module, preprocessing),
        program=program,
    )


def _foreign(
    path: Path, content: Any, text: str | None, stated: Stated, allow_code: bool, finite: bool, target: str | None
) -> LoadedModel:
    tensors, notes = unwrap(content, path)
    if finite:
        check_finite(tensors, str(path))
    digest = file_sha256(path)
    official, doubts = official_weights(digest), list[str]()
    if text is not None:
        arch = named(text, tensors, allow_code)
    elif official is not None:
        arch = official_arch(official[0], len(official[1].meta["categories"]))
    else:
        arch, others = recognise(tensors, path, target)
        if others:
            doubts.append(
                f"{path.name} fits {', '.join(map(arch_text, others))} as well: {arch_text(arch)} is taken, "
                f"the usual one; {how_to_name(path, arch_text(others[0]), target)} says otherwise"
            )
    module = _blank(arch, allow_code)
    if arch.shapes:
        notes.append(f"{len(arch.shapes)} tensors have other shapes than {arch}: taken as pruned")
    strict_load(module, tensors, path, arch_text(arch))
    module.eval()
    classes: tuple[str, ...] | None = None
    task: Task | None = None
    if official is not None and text is None:
        entry = official[1]
        preprocessing: Preprocessing | None = weights_preprocessing(entry)
        classes = tuple(entry.meta["categories"])
        notes.append(f"these are torchvision's {entry} by their hash")
    else:
        preprocessing = default_preprocessing(arch, module)
        if arch.source == "module":
            preprocessing, classes, task = stated_by(module, arch.name)
        notes.append(f"recognised as {arch_text(arch)}" if text is None else f"taken as {arch_text(arch)}")
        if preprocessing is not None and arch.source != "module" and stated.size is None and stated.mean is None:
            notes.append(
                f"input size {preprocessing.size[0]} and normalization as {arch.source} uses them for {arch.name}"
            )
    channels = input_channels(module)
    if preprocessing is not None and (arch.source == "module" or preprocessing.channels == channels):
        preprocessing = stated.over(preprocessing)
    else:
        size: tuple[int | str, ...] = ("height", "width") if preprocessing is None else preprocessing.size
        preprocessing = stated.of_input(TensorSpec("input", "float32", ("batch", channels, *size), "NCHW"))
    if (said := assumption(preprocessing, path.name)) is not None:
        doubts.append(said)
    task = stated.task or task or _task_of(arch, module, preprocessing)
    return LoadedModel(
        module=module,
        arch=arch,
        preprocessing=preprocessing,
        classes=stated.names(arch.kwargs.get("num_classes"), str(path)) or classes,
        samples=None,
        lineage=[],
        notes=[*notes, *doubts],
        doubts=doubts,
        sha256=digest,
        task=task,
    )


def _task_of(arch: Arch, module: nn.Module, preprocessing: Preprocessing | None) -> Task:
    """A library's classifiers are known by name; what else a network answers is found by running it."""
    if arch.source == "torchvision" and arch.name not in torchvision_names():
        return "none"
    return task_of_module(module, preprocessing) if arch.source == "module" else "classify"


def _own(path: Path, file: ModelFile, stated: Stated, allow_code: bool, finite: bool) -> LoadedModel:
    tensors, notes = file.tensors, list[str]()
    if file.ema is not None:
        tensors = {**file.tensors, **file.ema}
        notes.append("uses the moving average of the weights")
    module = _blank(file.arch, allow_code)
    if finite:
        check_finite(tensors, str(path))
    strict_load(module, tensors, path, str(file.arch))
    preprocessing = stated.over(file.preprocessing)
    if preprocessing.size != file.preprocessing.size:
        height, width = preprocessing.size
        notes.append(f"input size {height}×{width} instead of the file's {'×'.join(map(str, file.preprocessing.size))}")
    said = assumption(preprocessing, path.name)
    doubts = [] if said is None else [said]
    samples = None if file.samples is None else {key: value.numpy() for key, value in file.samples.items()}
    return LoadedModel(
        module=module.eval(),
        arch=file.arch,
        preprocessing=preprocessing,
        classes=stated.names(len(file.classes), str(path)) or file.classes,
        samples=samples,
        lineage=file.lineage,
        notes=[*notes, *doubts],
        doubts=doubts,
        sha256=file_sha256(path),
        task=stated.task or file.task,
        masks=file.masks,
        ranges=file.ranges,
    )


def _blank(arch: Arch, allow_code: bool) -> nn.Module:
    """The network without initialised weights (user code initialises as it likes); the random state is left alone.

    It is in float32, whatever user code makes it in.
    """
    with torch.random.fork_rng(devices=[]):
        if arch.source == "module":
            return build(arch, allow_code=allow_code).float()
        with without_initialisation():
            return build(arch)


def strict_load(module: nn.Module, tensors: dict[str, Tensor], path: Path, name: str) -> None:
    """Load ``tensors`` into ``module``, every name and shape as it should be.

    Raises:
        BadInput: names or shapes differ (the first three are named).
    """
    expected = module.state_dict()
    for key, tensor in expected.items():
        if key.endswith("num_batches_tracked") and key not in tensors:  # files from before PyTorch 0.4.1
            tensors = {**tensors, key: torch.zeros_like(tensor)}
    differences = [
        *(f"{key} is missing" for key in expected if key not in tensors),
        *(f"{key} is not in the network" for key in tensors if key not in expected),
        *(
            f"{key} is {list(tensors[key].shape)} instead of {list(expected[key].shape)}"
            for key in expected
            if key in tensors and tensors[key].shape != expected[key].shape
        ),
    ]
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise BadInput(f"{path} does not fit {name}: {', '.join(differences[:3])}{more}")
    versioned = OrderedDict(tensors)
    versioned._metadata = expected._metadata  # type: ignore[attr-defined]  # MNASNet refuses tensors without a version
    module.load_state_dict(versioned, strict=True)
