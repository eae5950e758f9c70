"""Build the shipped index of names and shapes: ``python -m deploykit.models.make_index``.

Every torchvision and timm classifier is built once on the meta device. Networks that share all names and shapes form
a group; its members are run with the same seeded weights on the same seeded picture, and those whose outputs are
equal count as one when a file is recognised.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from deploykit.base.atomic import write_bytes
from deploykit.base.errors import DeploykitError
from deploykit.models.build import build, build_meta, parse_arch, without_initialisation
from deploykit.models.index import INDEX, IndexFile, names_digest, shapes_digest, sketch
from deploykit.models.recognize import equal_outputs, seeded_output
from deploykit.models.sources import AUXILIARY, timm_names, torchvision_names

STOCK, OTHER = 1000, 1007
MAX_PARAMS_TO_RUN = 130_000_000


def main() -> None:
    """Write the index; about ten minutes on one core."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=INDEX)
    parser.add_argument("--only", default="", help="a part of the names, to try it out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    index = make_index([name for name in _all_names() if arguments.only in name])
    text = json.dumps(index, separators=(",", ":"))
    write_bytes(arguments.output, gzip.compress(text.encode(), 9, mtime=0))
    print(f"{arguments.output}: {len(index['groups'])} groups, {arguments.output.stat().st_size} bytes")


def _all_names() -> list[str]:
    auxiliary = [f"torchvision:{name}:aux_logits=true" for name in AUXILIARY]
    return [
        *(f"torchvision:{name}" for name in torchvision_names()),
        *auxiliary,
        *(f"timm:{name}" for name in timm_names()),
    ]


def make_index(names: list[str]) -> IndexFile:
    """The index of the networks ``names``; what cannot be built here is named on stderr and left out."""
    import timm
    import torchvision

    groups: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    sketches: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        try:
            shapes, head = shapes_and_head(name)
        except (DeploykitError, RuntimeError, NotImplementedError, AssertionError, KeyError, AttributeError) as error:
            print(f"left out {name}: {error}"[:200], file=sys.stderr)
            continue
        digest = names_digest(shapes)
        sketches.setdefault(digest, sketch(shapes))
        groups.setdefault((digest, shapes_digest(shapes, head), head), []).append(name)
        if position % 100 == 0:
            print(f"{position}/{len(names)} {name}", file=sys.stderr, flush=True)
    return {
        "versions": {"torchvision": torchvision.__version__.partition("+")[0], "timm": timm.__version__},
        "names": sketches,
        "groups": [(*key, classes_of(members)) for key, members in groups.items()],
    }


def shapes_and_head(name: str) -> tuple[dict[str, list[int]], tuple[str, ...]]:
    """Name → shape of every tensor, and the names of those whose first dimension is the number of classes."""
    with without_initialisation():
        try:
            with torch.device("meta"):
                stock = build(name, STOCK).state_dict()
                other = build(name, OTHER).state_dict()
        except (DeploykitError, RuntimeError, NotImplementedError):
            stock, other = build(name, STOCK).state_dict(), build(name, OTHER).state_dict()
    shapes = {key: list(tensor.shape) for key, tensor in stock.items()}
    changed = [key for key, shape in shapes.items() if list(other[key].shape) != shape]
    if not changed or any(
        list(other[key].shape) != [OTHER, *shapes[key][1:]] or shapes[key][0] != STOCK for key in changed
    ):
        raise AssertionError(f"no plain head: {changed[:3]}")
    return shapes, tuple(changed)


def classes_of(members: list[str]) -> list[list[str]]:
    """The members of a group, those with equal outputs together; torchvision's first."""
    if len(members) == 1:
        return [members]
    found: list[tuple[Tensor | None, list[str]]] = []
    for name in members:
        output = _output(name)
        for known, names in found:
            if equal_outputs(known, output):
                names.append(name)
                break
        else:
            found.append((output, [name]))
    return [names for _, names in found]


def _output(name: str) -> Tensor | None:
    with without_initialisation():
        if _parameters(name) > MAX_PARAMS_TO_RUN:
            return None
        module = build(name, STOCK)
    size = (getattr(module, "pretrained_cfg", None) or {}).get("input_size", (3, 224, 224))[1:]
    return seeded_output(module, (size[0], size[1]))


def _parameters(name: str) -> int:
    return sum(parameter.numel() for parameter in build_meta(parse_arch(name)).parameters())


if __name__ == "__main__":
    main()
