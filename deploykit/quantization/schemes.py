"""Activations, weights and biases as integers: ``real = (q − zero_point) · scale`` (Jacob et al. 2018, section 2.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scheme:
    """A kind of 8-bit quantization.

    ``signed``: int8 instead of uint8. ``symmetric``: the zero point is 0 (signed) and the range is mirrored around it.
    ``bits``: width of the integers; 7 is ``reduce_range`` for CPUs whose u8·s8 sums saturate int16.
    """

    signed: bool
    symmetric: bool
    bits: int = 8

    @property
    def qmin(self) -> int:
        """The smallest integer; −127, not −128, where symmetric."""
        if not self.signed:
            return 0
        return -(2 ** (self.bits - 1)) + (1 if self.symmetric else 0)

    @property
    def qmax(self) -> int:
        """The largest integer."""
        return 2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1

    @property
    def dtype(self) -> type[np.int8] | type[np.uint8]:
        """The numpy type that stores it."""
        return np.int8 if self.signed else np.uint8


U8 = Scheme(signed=False, symmetric=False)
S8 = Scheme(signed=True, symmetric=True)
S8_ASYMMETRIC = Scheme(signed=True, symmetric=False)


@dataclass(frozen=True)
class Affine:
    """Scale and zero point of one tensor."""

    scale: float
    zero_point: int
    scheme: Scheme

    def quantize(self, real: np.ndarray) -> np.ndarray:
        """Round half to even and saturate, as ONNX QuantizeLinear does."""
        q = np.rint(np.asarray(real, np.float32) / np.float32(self.scale)) + self.zero_point
        return np.clip(q, self.scheme.qmin, self.scheme.qmax).astype(self.scheme.dtype)

    def dequantize(self, integers: np.ndarray) -> np.ndarray:
        """float32 of the same shape."""
        return (integers.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


TINY = 1e-12


def affine(low: float, high: float, scheme: Scheme) -> Affine:
    """Scale and zero point that cover ``[low, high]``; the range is widened to hold 0, which is then exact.

    A constant zero tensor gets the scale of ``TINY``'s order instead of a division by zero.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if scheme.symmetric:
        return Affine(float(np.float32(max(-low, high, TINY) / scheme.qmax)), 0, scheme)
    scale = float(np.float32(max(high - low, TINY) / (scheme.qmax - scheme.qmin)))
    zero_point = int(np.clip(round(scheme.qmin - low / scale), scheme.qmin, scheme.qmax))
    return Affine(scale, zero_point, scheme)


def widest(several: Iterable[Affine]) -> Affine:
    """One scale and zero point whose range holds all of theirs; they are of one scheme."""
    all_ = list(several)
    if len(all_) == 1:
        return all_[0]
    scheme = all_[0].scheme
    low = min((scheme.qmin - one.zero_point) * one.scale for one in all_)
    high = max((scheme.qmax - one.zero_point) * one.scale for one in all_)
    return affine(low, high, scheme)


INT32_MAX = 2**31 - 1


def channel_scales(weight: np.ndarray, axis: int, bits: int = 8, *, paired: bool = False) -> np.ndarray:
    """Symmetric scale of each output channel, float32 [C]; a dead channel gets the layer's mean scale, not zero.

    ``paired``: the CPU adds two u8·s8 products in 16 bits, so that no two neighbours of a channel may sum to more than 128
    (:func:`largest_pair`): each channel takes as much of the 8 bits as its own weights allow, between 7 and all 8.
    """
    limit = np.abs(weight.astype(np.float64)).max(axis=tuple(i for i in range(weight.ndim) if i != axis))
    if paired:
        limit = np.maximum(limit, largest_pair(weight.astype(np.float64), axis))
    filler = limit[limit > 0].mean() if (limit > 0).any() else 1.0
    return (np.where(limit > TINY, limit, filler) / (2 ** (bits - 1) - 1)).astype(np.float32)


def largest_pair(weight: np.ndarray, axis: int) -> np.ndarray:
    """The largest sum of magnitudes of two neighbouring weights of one sign, for each output channel [C].

    ``vpmaddubsw`` adds the products of two neighbours in int16, which 255·(a + b) overflows where a + b > 128; weights of
    unlike signs cannot. Neighbours are those of either layout that kernels pack weights in: channels last, or taps last.
    """
    rows = np.moveaxis(weight, axis, 0)
    orders = [rows, np.moveaxis(rows, 1, -1)] if rows.ndim > 2 else [rows]
    largest = np.zeros(len(rows))
    for order in orders:
        flat = order.reshape(len(rows), -1)
        for part in (np.maximum(flat, 0), np.maximum(-flat, 0)):
            largest = np.maximum(largest, (part[:, :-1] + part[:, 1:]).max(axis=1, initial=0))
    return largest


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
