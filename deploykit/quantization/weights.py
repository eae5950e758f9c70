"""Weights and biases as integers."""

from __future__ import annotations

import numpy as np

from deploykit.quantization.schemes import TINY

INT32_MAX = 2**31 - 1


def channel_scales(weight: np.ndarray, axis: int, bits: int = 8) -> np.ndarray:
    """Symmetric scale of each output channel, float32 [C]; a dead channel gets the layer's mean scale, not zero."""
    limit = np.abs(weight.astype(np.float64)).max(axis=tuple(i for i in range(weight.ndim) if i != axis))
    filler = limit[limit > 0].mean() if (limit > 0).any() else 1.0
    return (np.where(limit > TINY, limit, filler) / (2 ** (bits - 1) - 1)).astype(np.float32)


def room_for_bias(scales: np.ndarray, bias: np.ndarray, input_scale: float) -> np.ndarray:
    """Raise weight scales where ``bias / (input_scale · scale)`` would not fit int32 with room for the sums.

    A quarter of int32 is left to the bias, the rest to the products of activations and weights.
    """
    least = np.abs(bias.astype(np.float64)) / (input_scale * INT32_MAX / 4)
    return np.maximum(scales.astype(np.float64), least).astype(np.float32)


def quantize_weight(weight: np.ndarray, scales: np.ndarray, axis: int, bits: int = 8) -> np.ndarray:
    """Rounded to nearest, int8 of the same shape, within ±(2^(bits−1) − 1)."""
    limit = 2 ** (bits - 1) - 1
    shape = [1] * weight.ndim
    shape[axis] = -1
    return np.clip(np.rint(weight / scales.reshape(shape)), -limit, limit).astype(np.int8)


def quantize_bias(bias: np.ndarray, scales: np.ndarray, input_scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The bias as int32 [C] and its scales ``input_scale · scale`` float32 [C], as the integer kernels add it."""
    both = (scales * np.float32(input_scale)).astype(np.float32)
    integers = np.clip(np.rint(bias.astype(np.float64) / both), -INT32_MAX, INT32_MAX)
    return integers.astype(np.int32), both


def resized(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``array`` cut or filled with zeros at the end of each axis: what it is where channels are padded otherwise."""
    cut = array[tuple(slice(0, size) for size in shape)]
    return np.pad(cut, [(0, size - had) for size, had in zip(shape, cut.shape, strict=True)])
