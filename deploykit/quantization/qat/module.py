"""A network that computes in training what its int8 engine will compute: the exported graph, run in PyTorch.

The graph is the prepared float one; the tensors are the network's own, so that training changes what a model file
holds. Activations are rounded where the plan puts a Q and read rounded where it puts a DQ.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from deploykit.quantization.qat.binding import Bound
from deploykit.quantization.qat.layer import Layer, bounds_of, fake, grown
from deploykit.quantization.qat.ops import OPERATORS
from deploykit.quantization.qat.points import Points
from deploykit.quantization.qat.program import program_of
from deploykit.quantization.qdq.placement_ort_cpu import ANCHORS


class FakeQuantized(nn.Module):
    """``net`` as its int8 engine computes it: float [N, 3, H, W] → logits [N, C].

    Args:
        graph: prepared float graph of ``net`` as it is, without padding.
        net: the network whose tensors are trained; kept as ``self.net``.
        bound: node name → its tensors in ``net``; layers that are not there keep the graph's weights.
        points: what is rounded.
        bits: width of weights.
        integer_bias: biases are rounded to the step of the integer sum.
        learned: steps are parameters; else activations keep theirs, and weights have those of their largest values.
        limits: node name → what each channel's largest integer means; empty: found from the weights.
        freeze_after: training steps after which BatchNorm uses its running statistics.
    """

    points: Points
    bound: dict[str, Bound]

    def __init__(
        self,
        graph: ir.Graph,
        net: nn.Module,
        bound: Mapping[str, Bound],
        points: Points,
        *,
        bits: int = 8,
        integer_bias: bool = True,
        learned: bool = True,
        limits: Mapping[str, np.ndarray] | None = None,
        freeze_after: int = 0,
    ) -> None:
        super().__init__()
        self.net, self.bound, self.points = net, dict(bound), points
        self.learned, self.freeze_after = learned, freeze_after
        self.program = program_of(graph)
        start = torch.tensor([group.affine.scale for group in points.groups], dtype=torch.float32)
        free = torch.tensor([float(group.learned) for group in points.groups])
        most = torch.tensor([float("inf") if group.most is None else group.most for group in points.groups])
        for name, values in (("start", start), ("free", free), ("most", most)):
            self.register_buffer(name, values)
        self.theta = nn.Parameter(torch.zeros_like(start), requires_grad=learned)
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.int64))
        self.numbers: dict[str, int] = {}
        self.layers = nn.ModuleList()
        for step in self.program.steps:
            if step.op_type not in ANCHORS or step.inputs[1] not in self.program.constants:
                continue
            pair = bound.get(step.name)
            self.numbers[step.name] = len(self.layers)
            self.layers.append(
                Layer(
                    step,
                    pair,
                    [self.program.constants[name] for name in step.inputs[1:3] if name in self.program.constants],
                    bits=bits if step.name in points.layers else None,
                    learned=learned,
                    limits=(limits or {}).get(step.name),
                    integer_bias=integer_bias,
                )
            )
        self._hold_constants()

    def _hold_constants(self) -> None:
        """Constants that no layer holds: the network's parameters by their names, else buffers; integers as they are."""
        own = dict(self.net.named_parameters())
        used = {name for one in self.program.steps if one.name not in self.numbers for name in one.inputs}
        self.parameters_of: set[str] = set()
        self.buffer_of: dict[str, str] = {}
        self.integers: dict[str, Tensor] = {}
        for name in sorted(used & set(self.program.constants)):
            array = self.program.constants[name]
            if array.dtype.kind != "f":
                self.integers[name] = torch.from_numpy(np.array(array))
            elif name in own and np.array_equal(own[name].detach().numpy(), array):
                self.parameters_of.add(name)
            else:
                self.buffer_of[name] = f"constant{len(self.buffer_of)}"
                self.register_buffer(self.buffer_of[name], torch.from_numpy(np.array(array)), persistent=False)

    def steps(self) -> Tensor:
        """The step of each group of activations, float [groups]."""
        now = grown(self.start, self.theta * self.free)  # type: ignore[arg-type, operator]
        return torch.minimum(now, self.most)  # type: ignore[arg-type]

    def limits(self) -> dict[str, np.ndarray]:
        """Name of each layer on integers → what its channels' largest integers mean, float32 [C]."""
        with torch.no_grad():
            return {
                name: self.layers[number].limits(self.net).cpu().numpy()  # type: ignore[operator]
                for name, number in self.numbers.items()
                if name in self.points.layers
            }

    def forward(self, x: Tensor) -> Tensor:
        """Logits of pictures."""
        batch_statistics = self.training and int(self.steps_done) < self.freeze_after  # type: ignore[arg-type]
        if self.training:
            self.steps_done.add_(1)  # type: ignore[operator]
        own = dict(self.net.named_parameters()) if self.parameters_of else {}
        values: dict[str, Tensor] = dict(self.integers)
        values |= {name: own[name] for name in self.parameters_of}
        values |= {name: getattr(self, buffer) for name, buffer in self.buffer_of.items()}
        values[self.program.input] = x
        rounded: dict[str, Tensor] = {}
        steps = self.steps()

        def read(node: str, index: int, name: str) -> Tensor | None:
            if not name:
                return None
            if (node, index) not in self.points.reads:
                return values[name]
            if name not in rounded:
                rounded[name] = self._rounded(values[name], steps, name)
            return rounded[name]

        for step in self.program.steps:
            number = self.numbers.get(step.name)
            if number is not None:
                source = read(step.name, 0, step.inputs[0])
                group = self.points.layers.get(step.name)
                input_step = None if group is None else steps[group]
                answers = (self.layers[number](self.net, source, input_step, batch_statistics),)
            else:
                inputs = [read(step.name, index, name) for index, name in enumerate(step.inputs)]
                given = OPERATORS[step.op_type](step.attributes, inputs)
                answers = given if isinstance(given, tuple) else (given,)
            values.update(zip(step.outputs, answers, strict=False))
            for name in step.done:
                values.pop(name, None)
                rounded.pop(name, None)
        out = values[self.program.output]
        return self._rounded(out, steps, self.program.output) if self.points.rounded_outputs else out

    def _rounded(self, x: Tensor, steps: Tensor, name: str) -> Tensor:
        number = self.points.of[name]
        low, high = bounds_of(self.points.groups[number].affine)
        return fake(x, steps[number], low, high, x[0].numel())
