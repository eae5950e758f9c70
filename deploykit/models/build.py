"""Build a network from its name, ``SOURCE:NAME[:key=value,…]``; downloads and user code only where they are allowed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from typing import Any

import torch
import yaml
from torch import nn

from deploykit.base.checkpoint import Arch, Kwargs
from deploykit.base.errors import BadInput, nearest, unknown
from deploykit.config.registries import NETS
from deploykit.models.batch_norm import as_batch_norm
from deploykit.models.heads import take_channels
from deploykit.models.reshape import reshape
from deploykit.models.sources import from_module, from_timm, from_torchvision, timm_names, torchvision_names

SOURCES = ("deploykit", "torchvision", "timm", "module")

_ARGUMENTS = re.compile(r"[A-Za-z_]\w*=")


def parse_arch(text: str) -> Arch:
    """Take ``SOURCE:NAME[:key=value,…]`` apart; values are YAML (``widths=[32, 64, 128]``).

    A name whose source is none of deploykit, torchvision and timm is user code: ``package.module:factory``
    (also written ``module:package.module:factory``). Whether the network exists is looked at by ``build``.

    Raises:
        BadInput: no source, an unknown one, or arguments that cannot be read.
    """
    parts = text.split(":")
    named_so = parts[0] == "module" and len(parts) > 2
    parts = parts[1:] if named_so else parts
    if len(parts) < 2 or not all(parts[:2]):
        raise BadInput(
            f"cannot read the architecture {text!r}",
            expected="SOURCE:NAME (deploykit:resnet, torchvision:resnet18, timm:…, package.module:factory)",
        )
    source, name, rest = parts[0], parts[1], ":".join(parts[2:])
    kwargs = _arguments(rest, text) if rest else {}
    if source in ("deploykit", "torchvision", "timm") and not named_so:
        return Arch(source, name, kwargs)
    if "." not in source and not named_so and nearest(source, SOURCES[:3]) is not None and not _is_module(source):
        raise unknown("model source", source, SOURCES)
    if not re.fullmatch(r"[A-Za-z_][\w.]*", source) or not re.fullmatch(r"[A-Za-z_][\w.]*", name):
        raise unknown("model source", source, SOURCES)
    return Arch("module", f"{source}:{name}", kwargs)


def _is_module(name: str) -> bool:
    """Whether Python finds a module of this name, here or among what is installed; it is not imported."""
    try:
        return PathFinder.find_spec(name, [os.getcwd(), *sys.path]) is not None
    except (ImportError, ValueError):
        return False


def arch_text(arch: Arch) -> str:
    """The inverse of :func:`parse_arch`; the number of classes and pruned shapes are left out."""
    name = arch.name if arch.source == "module" else str(arch)
    kwargs = {key: value for key, value in arch.kwargs.items() if key != "num_classes"}
    return name + (":" + ",".join(f"{key}={_plain(value)}" for key, value in kwargs.items()) if kwargs else "")


def _plain(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n").removesuffix("\n...")


def _arguments(text: str, whole: str) -> Kwargs:
    fields: Kwargs = {}
    for pair in re.split(r",(?=\s*[A-Za-z_]\w*=)", text):
        if not _ARGUMENTS.match(pair.strip()):
            raise BadInput(f"cannot read the argument {pair!r} of {whole!r}", expected="key=value")
        key, _, value = pair.strip().partition("=")
        try:
            fields[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise BadInput(f"cannot read the value of {key} in {whole!r}: {error}") from error
    return fields


def build(
    arch: Arch | str,
    num_classes: int | None = None,
    *,
    kwargs: Kwargs | None = None,
    download: bool = False,
    allow_code: bool = False,
) -> nn.Module:
    """A freshly initialised network in training mode; ``arch.shapes`` are applied.

    The argument ``in_channels`` of any library's network is the number of channels of its images: its first convolution
    is new where that is not its own.

    ``arch``: ``SOURCE:NAME`` or a parsed one. ``num_classes``: outputs; None: what ``arch.kwargs`` says, else the
    network's own default. ``kwargs``: further arguments of the builder, over those of ``arch``. ``download``: fetch the
    library's pretrained weights; the head is replaced where ``num_classes`` differs.

    Raises:
        BadInput: an unknown name, arguments the network does not take, or user code that may not run.
        Unavailable: timm is not installed, or the download failed.
    """
    arch = parse_arch(arch) if isinstance(arch, str) else arch
    arguments = {**arch.kwargs, **(kwargs or {})}
    if num_classes is not None:
        arguments["num_classes"] = num_classes
    if (outputs := arguments.get("num_classes")) is not None and (not isinstance(outputs, int) or outputs < 1):
        raise BadInput(f"number of classes of {arch}", got=outputs, expected="a positive integer")
    if arch.source == "program":
        raise BadInput(f"{arch} is an exported program: it runs and exports, but cannot be built anew")
    if download and arch.source in ("deploykit", "module"):
        raise BadInput(f"{arch} has no weights to download", fix="Name a weights file instead.")
    channels = arguments.pop("in_channels", None) if arch.source != "module" else None
    if channels is not None and (not isinstance(channels, int) or channels < 1):
        raise BadInput(f"in_channels of {arch}", got=channels, expected="a positive integer")
    try:
        if arch.source == "deploykit":
            module = NETS.load(arch.name)(**arguments)
        elif arch.source == "torchvision":
            module = from_torchvision(arch.name, arguments, download)
        elif arch.source == "timm":
            module = from_timm(arch.name, arguments, download)
        else:
            module = from_module(arch.name, arguments, allow_code)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{arch} cannot be built with {arguments}: {error}") from error
    module = as_batch_norm(module)
    if channels is not None:
        take_channels(module, channels)
    if arch.shapes:
        reshape(module, arch.shapes)
    return module


@contextmanager
def without_initialisation() -> Iterator[None]:
    """Make ``torch.nn.init`` leave tensors alone: the weights are overwritten anyway."""
    names = [name for name in vars(nn.init) if name.endswith("_") and not name.startswith("_")]
    kept = {name: getattr(nn.init, name) for name in names}
    for name in names:
        setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(nn.init, name, function)


def build_meta(arch: Arch, allow_code: bool = False) -> nn.Module:
    """Build on the meta device, without memory or arithmetic; user code is built where it wants to be."""
    if arch.source == "module":
        return build(arch, allow_code=allow_code)
    try:
        with torch.device("meta"), without_initialisation():
            return build(arch, allow_code=allow_code)
    except (RuntimeError, NotImplementedError):  # a constructor that looks at values
        return build(arch, allow_code=allow_code)


def architectures() -> list[str]:
    """Every ``SOURCE:NAME`` that can be built here: deploykit's, torchvision's classifiers, timm's where installed."""
    return [
        *(f"deploykit:{name}" for name in sorted(NETS)),
        *(f"torchvision:{name}" for name in torchvision_names()),
        *(f"timm:{name}" for name in timm_names()),
    ]
