"""Tensor files: deploykit's safe ``.pt`` and the reading of other people's, without unpickling any object."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit.base.artifact import LineageEntry
from deploykit.base.errors import BadInput, from_os_error, shortened
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.task import Task, read_task

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "deploykit.model/1"


Kwargs = dict[str, Any]
"""Keyword arguments of a network's builder: numbers, texts and lists of them."""


@dataclass
class Arch:
    """How to build the network: ``source:name`` with arguments, then reshaped to ``shapes``.

    ``source``: ``deploykit``, ``torchvision``, ``timm`` or ``module``. ``name``: within the source (``resnet``,
    ``resnet18``, ``package.module:factory``). ``kwargs``: plain keyword arguments of the builder, the number of classes
    included. ``shapes``: tensor name → shape where it differs from the stock network's (pruned); empty otherwise.
    """

    source: str
    name: str
    kwargs: Kwargs = field(default_factory=dict)
    shapes: dict[str, list[int]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.source}:{self.name}"


@dataclass
class ModelFile:
    """The content of deploykit's ``.pt``.

    Attributes:
        arch: how to build it.
        tensors: the state dict.
        ema: the state dict of the moving average, where one was trained; it is what is used when present.
        masks: tensor name → bool mask (2:4 sparsity).
        ranges: activation ranges by module name (QAT).
        preprocessing: what turns a picture into its input.
        classes: names in the order of the outputs.
        lineage: what was done to it, oldest first.
        samples: ``{"images": uint8 [N, H, W, C], "labels": int64 [N]}`` tensors of test images, N ≤ 32.
        task: what its outputs mean.
    """

    arch: Arch
    tensors: dict[str, Tensor]
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    ema: dict[str, Tensor] | None = None
    masks: dict[str, Tensor] | None = None
    ranges: Mapping[str, Any] | None = None
    lineage: list[LineageEntry] = field(default_factory=list)
    samples: dict[str, Tensor] | None = None
    task: Task = "classify"


def write_model_file(path: Path, model: ModelFile, *, claim: bool = False) -> None:
    """Write the safe file at ``path`` (atomically); every tensor is stored contiguous on the CPU.

    ``model``: what it holds. ``claim``: a manifest follows; until then a claim tells whose the file is
    (:mod:`deploykit.base.artifact`).

    Raises:
        BadInput: the folder is missing or not writable.
        SystemTrouble: the disk is full, or failed.
    """
    import torch

    from deploykit.base.artifact import claimed
    from deploykit.base.atomic import atomic_path

    def stored(tensors: dict[str, Tensor] | None) -> dict[str, Tensor] | None:
        if tensors is None:
            return None
        plain = torch.contiguous_format  # with the strides that follow from the shape alone
        return {name: tensor.detach().to("cpu").clone(memory_format=plain) for name, tensor in tensors.items()}

    content = {
        "format": FORMAT,
        "task": model.task,
        "arch": {
            "source": model.arch.source,
            "name": model.arch.name,
            "kwargs": model.arch.kwargs,
            "shapes": model.arch.shapes,
        },
        "tensors": stored(model.tensors),
        "ema": stored(model.ema),
        "masks": stored(model.masks),
        "ranges": model.ranges,
        "preprocessing": model.preprocessing.to_dict(),
        "classes": list(model.classes),
        "lineage": model.lineage,
        "samples": stored(model.samples),
    }
    with atomic_path(path, claimed(path) if claim else None) as temporary:
        save_tensors(content, temporary)


def save_tensors(content: Any, path: Path) -> None:
    """``torch.save``: equal content makes equal bytes, and a failed write is the ``OSError`` that it was.

    Given a path, torch writes in C++ and loses the reason; given a file, it may hide it behind its own error.

    Raises:
        OSError: the system did not take the file.
    """
    import torch

    try:
        with path.open("wb") as file:
            torch.save(_without_identities(content, {}), file)
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from error


def _without_identities(content: Any, texts: dict[str, str]) -> Any:
    """``content`` in new containers, equal texts as one object and no other shared: a pickle tells what is the same object
    from what is only equal, so that otherwise a file would depend on where its values came from.

    ``texts``: those met so far.
    """
    if type(content) is str:
        return texts.setdefault(content, content)
    if isinstance(content, Mapping):
        return {_without_identities(key, texts): _without_identities(value, texts) for key, value in content.items()}
    if type(content) in (list, tuple):
        return type(content)([_without_identities(one, texts) for one in content])
    return content


def read_tensors(path: Path) -> Any:
    """The plain content of a ``.pt``/``.pth``/``.ckpt``/``.safetensors`` file, on the CPU.

    Returns whatever plain containers the file holds: a state dict, or a dictionary around one.

    Raises:
        BadInput: missing, empty, truncated, no tensor file, TorchScript, or holding objects (the class is named).
    """
    import torch

    path = check_file(path)
    if path.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise BadInput(f"{path} is no readable .safetensors file: {error}", fix="Is it truncated?") from error
    if (other := _other_kind(path)) is not None:
        raise BadInput(f"{path} is no PyTorch file: it is {other}", expected=".pt, .pth, .ckpt or .safetensors")
    _check_zip(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, which cannot be helped here
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise from_os_error(error, f"cannot read {path}") from error
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
    ) as error:
        raise BadInput(_why_unreadable(path, error), fix=SAVE_HINT if _foreign_class(error) else None) from error


SAVE_HINT = (
    "Save a state dict where its code is at hand: `x = torch.load(FILE, weights_only=False)`, then "
    "`torch.save(x['state_dict'] if isinstance(x, dict) else x.state_dict(), 'model.pt')`."
)

_KINDS = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"%PDF", "a PDF"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89HDF", "an HDF5 file (Keras?)"),
    (b"ftrt", "a TensorRT engine"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself (run `git lfs pull`)"),
)


def _other_kind(path: Path) -> str | None:
    """What a file is that is no PyTorch file, by its first bytes; None where it may be one."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise from_os_error(error, f"cannot read {path}") from error
    for magic, kind in _KINDS:
        if head.startswith(magic):
            return kind
    if head[:1] == b"\x08" and (b"pytorch" in head[:32] or b"onnx" in head[:64] or b"deploykit" in head[:64]):
        return "an ONNX model (give it the suffix .onnx)"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "a safetensors file (give it the suffix .safetensors)"
    if head and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return "text"
    return None


def _check_zip(path: Path) -> None:
    """Refuse what only looks like torch's zip: truncated, TorchScript, or an archive of something else."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise BadInput(f"{path} is a truncated or damaged .pt file", fix="Copy or download it again.") from error
    if any(name.endswith("constants.pkl") for name in names):
        raise BadInput(f"{path} is TorchScript, which carries code", fix=SAVE_HINT)
    if any("/models/" in name and name.endswith(".json") for name in names):
        raise BadInput(f"{path} is an exported program", fix="Give it the suffix .pt2.")
    if not any(name.endswith("data.pkl") for name in names):
        raise BadInput(f"{path} is a zip archive that PyTorch did not write", got=", ".join(names[:3]) or "no entries")


def check_file(path: Path) -> Path:
    """Return ``path`` if it is a file with content.

    Raises:
        BadInput: missing, a folder, or empty.
    """
    if not path.exists():
        raise BadInput(f"{path} does not exist", fix="Check the path.")
    if path.is_dir():
        raise BadInput(f"{path} is a folder", expected="a file")
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty (0 bytes)")
    return path


def _foreign_class(error: Exception) -> str | None:
    import re

    text = str(error)
    found = re.search(r"GLOBAL\s+'?([\w.]+)'?", text) or re.search(r"class\s+'?([\w.]+\.[\w.]+)'?", text)
    return found.group(1) if found else None


def _cause(error: Exception) -> str:
    """What PyTorch found, without its advice on ``weights_only`` before and after it."""
    import re

    text = " ".join(str(error).split())
    text = re.sub(r"^Weights only load failed\..*?(?:trusted source\.|WeightsUnpickler error:) ?", "", text)
    text = re.sub(r"^.*WeightsUnpickler error: ?", "", text)
    text = re.sub(r" ?Check the documentation of torch\.load .*$", "", text) or "its pickle cannot be read"
    return shortened(text, 120)


def _why_unreadable(path: Path, error: Exception) -> str:
    if (name := _foreign_class(error)) is not None:
        return f"{path} is a pickle that holds objects of class {name}, and unpickling runs foreign code"
    if zipfile.is_zipfile(path):
        return f"{path} is a damaged .pt file: {_cause(error)}"
    return f"{path} is no PyTorch file, or a truncated one"


def is_model_file(content: Any) -> bool:
    """Whether :func:`read_tensors` returned the content of a deploykit ``.pt``."""
    return isinstance(content, dict) and str(content.get("format", "")).startswith("deploykit.model/")


def parse_model_file(content: Mapping[str, Any], path: Path) -> ModelFile:
    """The checked :class:`ModelFile` of a content read from ``path``.

    Raises:
        BadInput: another format version, or broken fields.
    """
    if content["format"] != FORMAT:
        raise BadInput(f"{path} has another format", got=content["format"], expected=FORMAT, fix="Update deploykit.")
    try:
        return ModelFile(
            arch=Arch(**content["arch"]),
            tensors=content["tensors"],
            ema=content["ema"],
            masks=content["masks"],
            ranges=content["ranges"],
            preprocessing=Preprocessing.from_dict(content["preprocessing"]),
            classes=tuple(content["classes"]),
            lineage=list(content["lineage"]),
            samples=_checked_samples(content["samples"]),
            task=read_task(content.get("task"), str(path)),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadInput(f"{path} is a damaged deploykit model file: {error}") from error


def _checked_samples(samples: Any) -> dict[str, Tensor] | None:
    if samples is None:
        return None
    images, labels = samples["images"], samples["labels"]
    if str(images.dtype) != "torch.uint8" or images.dim() != 4 or len(labels) != len(images):
        raise ValueError(f"samples of shape {list(images.shape)}, not uint8 [N, H, W, C] with N labels")
    return {"images": images, "labels": labels}
