"""How a network is named: ``SOURCE:NAME[:key=value,…]``, or ``package.module:factory``."""

from __future__ import annotations

import re
from typing import Any

import yaml

from deploykit.base.checkpoint import Arch
from deploykit.base.errors import BadInput, nearest, unknown

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
    if parts[0] == "module" and len(parts) > 2:
        parts = parts[1:]
    if len(parts) < 2 or not all(parts[:2]):
        raise BadInput(
            f"cannot read the architecture {text!r}",
            expected="SOURCE:NAME (deploykit:resnet, torchvision:resnet18, timm:…, package.module:factory)",
        )
    source, name, rest = parts[0], parts[1], ":".join(parts[2:])
    kwargs = _arguments(rest, text) if rest else {}
    if source in ("deploykit", "torchvision", "timm"):
        return Arch(source, name, kwargs)
    if "." not in source and nearest(source, SOURCES[:3]) is not None:
        raise unknown("model source", source, SOURCES)
    if not re.fullmatch(r"[A-Za-z_][\w.]*", source) or not re.fullmatch(r"[A-Za-z_][\w.]*", name):
        raise unknown("model source", source, SOURCES)
    return Arch("module", f"{source}:{name}", kwargs)


def arch_text(arch: Arch) -> str:
    """The inverse of :func:`parse_arch`; the number of classes and pruned shapes are left out."""
    name = arch.name if arch.source == "module" else str(arch)
    kwargs = {key: value for key, value in arch.kwargs.items() if key != "num_classes"}
    return name + (":" + ",".join(f"{key}={_plain(value)}" for key, value in kwargs.items()) if kwargs else "")


def _plain(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n").removesuffix("\n...")


def _arguments(text: str, whole: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for pair in re.split(r",(?=\s*[A-Za-z_]\w*=)", text):
        if not _ARGUMENTS.match(pair.strip()):
            raise BadInput(f"cannot read the argument {pair!r} of {whole!r}", expected="key=value")
        key, _, value = pair.strip().partition("=")
        try:
            fields[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise BadInput(f"cannot read the value of {key} in {whole!r}: {error}") from error
    return fields
