"""Load a model file of any kind into a network that is ready to run."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deploykit.base.checkpoint import Arch, ModelFile, check_file, is_model_file, parse_model_file, read_tensors
from deploykit.base.errors import BadInput
from deploykit.base.hashing import file_sha256
from deploykit.base.preprocessing import Preprocessing
from deploykit.models.build import build
from deploykit.models.equality import without_initialisation
from deploykit.models.exported_program import load_program
from deploykit.models.names import arch_text, parse_arch
from deploykit.models.pretrained import default_preprocessing, official_arch, official_weights, weights_preprocessing
from deploykit.models.recognize import named, recognise
from deploykit.models.save import check_finite
from deploykit.models.unwrapping import unwrap

if TYPE_CHECKING:
    import numpy as np


@dataclass
class LoadedModel:
    """A model file, loaded.

    Attributes:
        module: in eval mode, fp32, on the CPU.
        arch: how it was built.
        preprocessing: None where the file does not carry it and nothing about the architecture tells it.
        classes: names in the order of the outputs, or None where not known.
        samples: ``{"images": uint8 [N, H, W, 3], "labels": int64 [N]}``, or None.
        lineage: what was done to it, oldest first.
        notes: assumptions and changes the user should hear about.
        sha256: of the file.
        program: the ``torch.export.ExportedProgram`` of a ``.pt2``, whose ``module`` is its unlifted graph module.
        masks: tensor name → bool mask, or None.
        ranges: activation ranges by module name, or None.
    """

    module: nn.Module
    arch: Arch
    preprocessing: Preprocessing | None
    classes: tuple[str, ...] | None
    samples: dict[str, np.ndarray] | None
    lineage: list[dict[str, Any]]
    notes: list[str]
    sha256: str
    program: Any = None
    masks: dict[str, Tensor] | None = field(default=None)
    ranges: dict[str, Any] | None = field(default=None)


def load_model(
    path: Path | str,
    *,
    arch: str | None = None,
    size: int | None = None,
    allow_code: bool = False,
    finite: bool = True,
) -> LoadedModel:
    """Load a deploykit ``.pt``, a bare or wrapped state dict, a ``.safetensors`` or a ``.pt2`` file.

    Args:
        path: of the file.
        arch: what the tensors are, where recognition cannot tell (``torchvision:resnet18``).
        size: input size in pixels, where the file does not carry it or another one is wanted.
        allow_code: ``module:…`` networks may run.
        finite: refuse weights that are NaN or infinite.

    Raises:
        BadInput: not a model file, not recognised, ambiguous, not strictly loadable, or with NaN weights.
        Unavailable: it is a timm network and timm is not installed.
    """
    path = check_file(Path(path))
    if path.suffix.lower() == ".pt2":
        return _program(path, size)
    content = read_tensors(path)
    if is_model_file(content):
        file = parse_model_file(content, path)
        if arch is not None and _contradicts(parse_arch(arch), file.arch):
            raise BadInput(
                f"{path} carries its own architecture",
                got=arch,
                expected=arch_text(file.arch),
                fix="Leave --arch out.",
            )
        return _own(path, file, size, allow_code, finite)
    return _foreign(path, content, arch, size, allow_code, finite)


def _contradicts(named: Arch, carried: Arch) -> bool:
    """Whether the user named another network, or other arguments, than the file says."""
    different = [key for key, value in named.kwargs.items() if carried.kwargs.get(key) != value]
    return str(named) != str(carried) or bool(different)


def _program(path: Path, size: int | None) -> LoadedModel:
    program, module, shape, given = load_program(path)
    preprocessing, notes = None, list[str]()
    if size is not None or (len(shape) == 4 and min(shape[2:]) > 0):
        carried = size is None
        preprocessing = Preprocessing((shape[2], shape[3]) if size is None else (size, size))
        notes.append(f"{'' if carried else 'input size as given, '}ImageNet normalisation assumed: a .pt2 carries none")
    return LoadedModel(
        module=module,
        arch=Arch("program", path.stem, {"num_classes": given[1]} if len(given) == 2 else {}),
        preprocessing=preprocessing,
        classes=None,
        samples=None,
        lineage=[],
        notes=notes,
        sha256=file_sha256(path),
        program=program,
    )


def _foreign(
    path: Path, content: Any, text: str | None, size: int | None, allow_code: bool, finite: bool
) -> LoadedModel:
    tensors, notes = unwrap(content, path)
    if finite:
        check_finite(tensors, str(path))
    digest = file_sha256(path)
    official = official_weights(digest)
    if text is not None:
        arch = named(text, tensors, allow_code)
    elif official is not None:
        arch = official_arch(official[0], len(official[1].meta["categories"]))
    else:
        arch = recognise(tensors, path)
    module = _blank(arch, allow_code)
    if arch.shapes:
        notes.append(f"{len(arch.shapes)} tensors have other shapes than {arch}: taken as pruned")
    strict_load(module, tensors, path, arch_text(arch))
    classes = None
    if official is not None and text is None:
        entry = official[1]
        preprocessing: Preprocessing | None = weights_preprocessing(entry)
        classes = tuple(entry.meta["categories"])
        notes.append(f"these are torchvision's {entry} by their hash")
    else:
        preprocessing = default_preprocessing(arch, module)
        notes.append(f"recognised as {arch_text(arch)}" if text is None else f"taken as {arch_text(arch)}")
        if preprocessing is not None and size is None:
            notes.append(
                f"input size {preprocessing.size[0]} and normalisation assumed as {arch.source} uses them for {arch.name}"
            )
    if size is not None:
        if preprocessing is None:
            notes.append("ImageNet normalisation assumed: the file carries none")
        preprocessing = resized(preprocessing, size) if preprocessing else Preprocessing((size, size))
    return LoadedModel(
        module=module.eval(),
        arch=arch,
        preprocessing=preprocessing,
        classes=classes,
        samples=None,
        lineage=[],
        notes=notes,
        sha256=digest,
    )


def _own(path: Path, file: ModelFile, size: int | None, allow_code: bool, finite: bool) -> LoadedModel:
    tensors, notes = file.tensors, list[str]()
    if file.ema is not None:
        tensors = {**file.tensors, **file.ema}
        notes.append("uses the moving average of the weights")
    module = _blank(file.arch, allow_code)
    if finite:
        check_finite(tensors, str(path))
    strict_load(module, tensors, path, str(file.arch))
    preprocessing = file.preprocessing
    if size is not None and preprocessing.size != (size, size):
        notes.append(f"input size {size} instead of the file's {preprocessing.size[0]}")
        preprocessing = resized(preprocessing, size)
    samples = None if file.samples is None else {key: value.numpy() for key, value in file.samples.items()}
    return LoadedModel(
        module=module.eval(),
        arch=file.arch,
        preprocessing=preprocessing,
        classes=file.classes,
        samples=samples,
        lineage=file.lineage,
        notes=notes,
        sha256=file_sha256(path),
        masks=file.masks,
        ranges=file.ranges,
    )


def _blank(arch: Arch, allow_code: bool) -> nn.Module:
    """The network without initialised weights (user code initialises as it likes); the random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        if arch.source == "module":
            return build(arch, allow_code=allow_code)
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


def resized(preprocessing: Preprocessing, size: int) -> Preprocessing:
    """The same preprocessing for another input size; the resize before the crop keeps its ratio."""
    resize = preprocessing.resize
    if resize is not None:
        resize = max(size, round(resize * size / preprocessing.size[0]))
    return replace(preprocessing, size=(size, size), resize=resize)
