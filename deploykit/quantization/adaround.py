"""Adaptive rounding: each weight is rounded up or down so that its layer's output, not the weight, is nearest to float.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization" (arXiv:2004.10568): layer by layer
from the input, the squared error of the layer's output before its activation is minimised over the choice of rounding
(section 3.3), with the inputs as the quantized layers before make them (asymmetric reconstruction, section 3.4). The
choice is relaxed to the rectified sigmoid h(V) of equation 23 with the regulariser of equation 24, whose exponent is
annealed. Two things differ. The error is quadratic in the weights, so it is held by second moments of sampled patches,
whose size does not grow with the pictures. And the relaxed answer is rounded and then improved by single flips until
none helps; no output channel is left worse than rounding to nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from deploykit.base.progress import SILENT, Progress
from deploykit.exporting.taps import OpenGraph, with_outputs
from deploykit.quantization.bias_correction import Batches

ZETA, GAMMA = 1.1, -0.1
STRENGTH = 0.02
STEPS, RATE = 400, 0.05
WORK = 4e11  # multiplications spent on the steps of one layer at most
POSITIONS = 64
SWEEPS = 20


@dataclass
class Moments:
    """Second moments of a layer, by group of channels.

    ``inputs``: Σ x xᵀ of the quantized network's patches, float64 [G, d, d]. ``missing``: Σ (y − b − W x) xᵀ, what the
    float weights leave open on those patches, float64 [G, o, d].
    """

    inputs: np.ndarray
    missing: np.ndarray
    count: int = 0


def round_adaptively(
    reference: onnx.ModelProto,
    make: Callable[[Mapping[str, np.ndarray]], onnx.ModelProto],
    layers: Sequence[str],
    batches: Batches,
    open_graph: OpenGraph,
    *,
    bits: int = 8,
    seed: int = 0,
    progress: Progress = SILENT,
) -> dict[str, np.ndarray]:
    """Integer weights of each layer, found from the input on.

    ``reference``: the float network that was quantized, with the same node names and weights of the same shapes.
    ``make``: the quantized network with given integer weights. ``layers``: names of the quantized layers (Conv, Gemm),
    in topological order. ``batches``: prepared calibration inputs; called twice for each layer. Returns layer → int8,
    of the weight's shape.
    """
    nodes = {node.name: node for node in reference.graph.node}
    constants = {tensor.name: tensor for tensor in reference.graph.initializer}
    rounded: dict[str, np.ndarray] = {}
    with progress.task("adaptive rounding", len(layers), "layers") as bar:
        for number, name in enumerate(layers):
            node = nodes[name]
            made = make(rounded)
            layer = _Layer(node, [onnx.numpy_helper.to_array(constants[key]) for key in node.input[1:3]])
            patches = _pairs(layer, reference, made, batches, open_graph, np.random.default_rng([seed, number]))
            scale = layer.grouped_scale(_scale(made, name))
            chosen = choose(layer.grouped(), scale, _moments(layer, patches), bits)
            rounded[name] = layer.as_weight(chosen)
            bar.advance()
    return rounded


class _Layer:
    """A Conv or Gemm as one matrix product a group of channels: weights [G, o, d] and patches [G, m, d]."""

    def __init__(self, node: onnx.NodeProto, constants: Sequence[np.ndarray]) -> None:
        self.node, self.weight = node, constants[0]
        self.bias = constants[1] if len(constants) > 1 else np.zeros(1, np.float32)
        self.options = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        self.groups = int(self.options.get("group", 1))
        self.turned = node.op_type != "Conv" and not self.options.get("transB", 0)

    def grouped(self) -> np.ndarray:
        weight = self.weight.T if self.turned else self.weight
        return weight.reshape(self.groups, len(weight) // self.groups, -1).astype(np.float64)

    def grouped_scale(self, scale: np.ndarray) -> np.ndarray:
        return scale.astype(np.float64).reshape(self.groups, -1, 1)

    def as_weight(self, integers: np.ndarray) -> np.ndarray:
        flat = integers.reshape(integers.shape[0] * integers.shape[1], -1)
        return np.ascontiguousarray(flat.T) if self.turned else flat.reshape(self.weight.shape)

    def sample(self, x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Patches [G, m, d] of the inputs and the outputs [G, m, o] there."""
        if self.node.op_type != "Conv":
            return x.reshape(1, len(x), -1), y.reshape(1, len(y), -1)
        kernel = self.weight.shape[2:]
        pads = self.options.get("pads", [0, 0, 0, 0])
        strides, dilations = self.options.get("strides", [1, 1]), self.options.get("dilations", [1, 1])
        padded = np.pad(x, [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])])
        height, width = y.shape[2:]
        count = min(POSITIONS, height * width)
        place = np.stack([random.permutation(height * width)[:count] for _ in range(len(x))])
        rows, columns = (place // width) * strides[0], (place % width) * strides[1]
        down = rows[..., None, None] + (np.arange(kernel[0]) * dilations[0])[:, None]
        right = columns[..., None, None] + (np.arange(kernel[1]) * dilations[1])[None, :]
        picture = np.arange(len(x))[:, None, None, None]
        patches = padded[picture, :, down, right]  # [n, count, kh, kw, C]
        patches = np.moveaxis(patches, -1, 2).reshape(len(x) * count, self.groups, -1)
        answers = y.reshape(*y.shape[:2], -1)[np.arange(len(x))[:, None], :, place].reshape(
            len(patches), self.groups, -1
        )
        return patches.transpose(1, 0, 2), answers.transpose(1, 0, 2)


def _pairs(
    layer: _Layer,
    reference: onnx.ModelProto,
    made: onnx.ModelProto,
    batches: Batches,
    open_graph: OpenGraph,
    random: np.random.Generator,
) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Sampled patches of the quantized layer's input, and the float layer's outputs at the same places."""
    output = layer.node.output[0]
    source = next(node.input[0] for node in made.graph.node if node.name == layer.node.name)
    run_float, run_made = (open_graph(with_outputs(p, [v])) for p, v in ((reference, output), (made, source)))
    for batch in batches():
        x, y = np.asarray(run_made(batch)[source]), np.asarray(run_float(batch)[output])
        yield layer.sample(x, y, random)


def _moments(layer: _Layer, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Moments:
    weight = layer.grouped().astype(np.float32)
    bias = layer.bias.astype(np.float32).reshape(layer.groups, 1, -1) if layer.bias.size > 1 else layer.bias
    groups, outputs, size = weight.shape
    sums = Moments(np.zeros((groups, size, size)), np.zeros((groups, outputs, size)))
    for x, y in pairs:
        open_part = y - bias - x @ weight.transpose(0, 2, 1)
        sums.inputs += x.transpose(0, 2, 1) @ x
        sums.missing += open_part.transpose(0, 2, 1) @ x
        sums.count += x.shape[1]
    return sums


def _scale(made: onnx.ModelProto, name: str) -> np.ndarray:
    node = next(node for node in made.graph.node if node.name == name)
    dq = next(one for one in made.graph.node if node.input[1] in one.output)
    scale = next(tensor for tensor in made.graph.initializer if tensor.name == dq.input[1])
    return onnx.numpy_helper.to_array(scale)


def choose(weight: np.ndarray, scale: np.ndarray, moments: Moments, bits: int = 8) -> np.ndarray:
    """Round each weight up or down so that the layer's squared error is small.

    ``weight``: float [G, o, d]. ``scale``: of each output channel, float [G, o, 1]. Returns int8 [G, o, d]; the error
    of no output channel is above that of rounding to nearest.
    """
    limit = 2 ** (bits - 1) - 1
    exact = np.clip(weight / scale, -limit, limit)
    size = max(np.trace(moments.inputs, axis1=1, axis2=2).mean() / weight.shape[-1], 1e-30)
    problem = _Problem(
        exact,
        np.floor(exact),
        (np.floor(exact) < limit).astype(np.float64),
        moments.inputs / size,
        moments.missing / size / scale,
    )
    nearest = (np.clip(np.rint(exact), -limit, limit) - problem.floor) * problem.free
    best = problem.flips(nearest)
    relaxed = problem.flips(problem.relaxed())
    better = problem.error(relaxed) < problem.error(best)
    return (problem.floor + np.where(better[..., None], relaxed, best)).astype(np.int8)


@dataclass
class _Problem:
    """Minimise Δ H Δᵀ − 2 Δ Cᵀ for each output channel, Δ = floor + up − exact, up ∈ {0, 1}; all in units of the scale."""

    exact: np.ndarray
    floor: np.ndarray
    free: np.ndarray
    inputs: np.ndarray
    missing: np.ndarray

    def error(self, up: np.ndarray) -> np.ndarray:
        """Of each output channel, [G, o], up to a constant."""
        delta = self.floor + up - self.exact
        return (delta * (delta @ self.inputs - 2 * self.missing)).sum(axis=-1)

    def relaxed(self) -> np.ndarray:
        """The rounding that gradient descent (Adam) on the rectified sigmoid finds."""
        inputs, missing = self.inputs.astype(np.float32), self.missing.astype(np.float32)
        free, part = self.free.astype(np.float32), (self.exact - self.floor).astype(np.float32)
        sigmoid = np.clip((part - GAMMA) / (ZETA - GAMMA), 0.01, 0.99)
        v = np.log(sigmoid / (1 - sigmoid))
        first, second = np.zeros_like(v), np.zeros_like(v)
        steps = int(np.clip(WORK / max(1, v.size * v.shape[-1]), 50, STEPS))
        for step in range(1, steps + 1):
            sigmoid = 1 / (1 + np.exp(-v))
            h = np.clip(sigmoid * (ZETA - GAMMA) + GAMMA, 0, 1) * free
            slope = 2 * ((h - part) @ inputs - missing)
            if step > steps // 5:
                beta = 2 + 18 * (1 - step / steps)
                away = 2 * h - 1
                slope -= STRENGTH * 2 * beta * np.sign(away) * np.abs(away) ** (beta - 1)
            slope *= sigmoid * (1 - sigmoid) * (ZETA - GAMMA)
            first += 0.1 * (slope - first)
            second += 0.001 * (slope * slope - second)
            rate = RATE / (1 - 0.9**step)
            v -= rate * first / (np.sqrt(second / (1 - 0.999**step)) + 1e-12)
        return (h >= 0.5).astype(np.float64) * self.free

    def flips(self, up: np.ndarray) -> np.ndarray:
        """Flip single weights, one input after the other, as long as that lowers the error of its channel."""
        up = up.copy()
        slope = (self.floor + up - self.exact) @ self.inputs - self.missing
        diagonal = np.diagonal(self.inputs, axis1=1, axis2=2)
        for _ in range(SWEEPS):
            moved = 0
            for j in range(up.shape[-1]):
                step = 1 - 2 * up[..., j]
                gain = (2 * step * slope[..., j] + diagonal[:, None, j]) * self.free[..., j]
                step = np.where(gain < -1e-12, step, 0.0)
                count = int(np.count_nonzero(step))
                if count:
                    up[..., j] += step
                    slope += step[..., None] * self.inputs[:, None, j, :]
                    moved += count
            if not moved:
                break
        return up
