"""Intermediate tensors of an ONNX graph and of a module, and which of one side is which of the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from deploykit.base.errors import BadInput
from deploykit.exporting.names import module_of

if TYPE_CHECKING:
    from torch import nn

RunGraph = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""An input → all outputs by name."""
OpenGraph = Callable[[onnx.ModelProto], RunGraph]


def with_outputs(proto: onnx.ModelProto, names: Iterable[str], *, alone: bool = False) -> onnx.ModelProto:
    """A copy of ``proto`` that gives out these tensors too, or ``alone``: what comes after them is then not computed.

    Inputs among the names are left out, and so are repeated ones.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    if alone:
        del made.graph.output[:]
    known = {one.name for one in (*made.graph.output, *made.graph.input)}
    made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in known)
    return made


@dataclass(frozen=True)
class Tap:
    """One tensor that can be read.

    ``node``: what makes it. ``op_type``: of the node; of a module its class. ``module``: the network's module, empty
    where not known.
    """

    tensor: str
    node: str
    op_type: str
    module: str


class GraphTaps:
    """Reads tensors of an ONNX graph on the CPU, by making them outputs of a copy of the graph in memory.

    ``path``: of the file; weights beside it stay there. ``x``: the graph's input.
    """

    def __init__(self, path: Path, x: np.ndarray, threads: int | None = None) -> None:
        self.path, self.x, self.threads = path, x, threads
        self.model = onnx.load(str(path), load_external_data=False)
        self.outputs = [value.name for value in self.model.graph.output]
        self.taps = [
            Tap(tensor, node.name or tensor, node.op_type, module_of(node.name))
            for node in self.model.graph.node
            for tensor in node.output
            if tensor
        ]

    def __call__(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """The named tensors for the input.

        Raises:
            BadInput: ONNX Runtime refuses the graph or the input.
        """
        import onnxruntime as ort

        tapped = with_outputs(self.model, names, alone=True)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(self.path.parent))
        try:
            session = ort.InferenceSession(tapped.SerializeToString(), options, providers=["CPUExecutionProvider"])
            values = session.run(list(dict.fromkeys(names)), {self.model.graph.input[0].name: self.x})
        except Exception as error:
            if type(error).__module__.startswith("onnxruntime."):
                raise BadInput(f"cannot read tensors of {self.path}: {str(error).splitlines()[0]}") from error
            raise
        return dict(zip(dict.fromkeys(names), values, strict=True))


class ModuleTaps:
    """Reads what a network's leaf modules answer, eagerly.

    A tensor is named after its module (``layer1.0.relu``, and ``layer1.0.relu#1`` for the module's second call), the
    network's own outputs ``@output``.

    ``module``: in eval mode, on the CPU. ``x``: float32 ``[N, 3, H, W]``.
    """

    def __init__(self, module: nn.Module, x: np.ndarray) -> None:
        self.module, self.x = module, x
        self.leaves = {name: leaf for name, leaf in module.named_modules() if not list(leaf.children())}
        self.taps: list[Tap] = []
        self.outputs: list[str] = []
        self._run(frozenset(), first=True)

    def __call__(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """The named tensors for the input."""
        return self._run(frozenset(names))

    def _run(self, wanted: frozenset[str], *, first: bool = False) -> dict[str, np.ndarray]:
        import torch

        from deploykit.exporting.reference import named_outputs

        found: dict[str, np.ndarray] = {}
        calls: dict[str, int] = {}

        def hook(name: str, leaf: nn.Module, answer: object) -> None:
            if not isinstance(answer, torch.Tensor):
                return
            count = calls[name] = calls.get(name, -1) + 1
            tensor = f"{name}#{count}" if count else name
            if first:
                self.taps.append(Tap(tensor, tensor, type(leaf).__name__, name))
            if tensor in wanted:  # a copy: an in-place activation may follow
                found[tensor] = answer.detach().float().numpy().copy()

        handles = [
            leaf.register_forward_hook(lambda leaf, _, answer, name=name: hook(name, leaf, answer))
            for name, leaf in self.leaves.items()
        ]
        try:
            with torch.inference_mode():
                outputs = named_outputs(self.module(torch.tensor(self.x)))
        finally:
            for handle in handles:
                handle.remove()
        if first:
            self.outputs = list(outputs)
        return found | {f"@{k}": v.float().numpy() for k, v in outputs.items() if f"@{k}" in wanted}


def match_graphs(reference: Sequence[Tap], candidate: Sequence[Tap]) -> list[tuple[Tap, Tap]]:
    """Pairs of taps in the candidate's order: by tensor name, else by module, operator and occurrence."""
    by_name = {tap.tensor: tap for tap in reference}
    by_place = dict(zip(_places(reference), reference, strict=True))
    pairs = []
    for tap, place in zip(candidate, _places(candidate), strict=True):
        other = by_name.get(tap.tensor) or (by_place.get(place) if tap.module else None)
        if other is not None and other.op_type == tap.op_type:
            pairs.append((other, tap))
    return pairs


def match_module(module: Sequence[Tap], graph: Sequence[Tap]) -> list[tuple[Tap, Tap]]:
    """Pairs (leaf module's call, graph tensor) in the order of computation.

    A leaf called once answers what its last node makes; one called k times with k nodes pairs call by call. A
    BatchNorm without nodes was folded: what it answers is made by the node of the leaf called just before it.
    """
    nodes: dict[str, list[Tap]] = defaultdict(list)
    for tap in graph:
        nodes[tap.module].append(tap)
    calls: dict[str, list[Tap]] = defaultdict(list)
    for tap in module:
        calls[tap.module].append(tap)
    pairs: list[tuple[Tap, Tap]] = []
    previous: Tap | None = None
    for tap in module:
        mine, uses = nodes.get(tap.module, []), calls[tap.module]
        made: Tap | None = None
        if mine and len(uses) == 1:
            made = mine[-1]
        elif mine and len(uses) == len(mine):
            made = mine[uses.index(tap)]
        elif not mine and "BatchNorm" in tap.op_type and previous is not None:
            made = previous
            if pairs and pairs[-1][1] is previous:
                pairs.pop()
        if made is not None:
            pairs.append((tap, made))
        previous = made
    return pairs


def _places(taps: Sequence[Tap]) -> list[tuple[str, str, int]]:
    seen: dict[tuple[str, str], int] = defaultdict(int)
    places = []
    for tap in taps:
        key = (tap.module, tap.op_type)
        places.append((*key, seen[key]))
        seen[key] += 1
    return places
