"""What a layer's tensors look like, for people who ask why int8 hurts it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from deploykit.quantization.observers import Observer
from deploykit.quantization.qdq.graph import attribute, constant
from deploykit.quantization.rounded_layer import Rounding, rounded_weight
from deploykit.quantization.schemes import Affine
from deploykit.quantization.search import snr_db

BARS = 64


def activation_facts(seen: Observer, read: Affine) -> dict[str, Any]:
    """Range and histogram of an activation.

    Returns:
        ``low``, ``high`` (seen), ``range_low``, ``range_high`` (what the integers reach), ``clipped_ratio`` (of the sampled
        values beyond it), ``histogram`` (``BARS`` counts between low and high).
    """
    reach = read.dequantize(np.asarray([read.scheme.qmin, read.scheme.qmax]))
    centers, total = seen.centers(), max(1, int(seen.counts.sum()))
    beyond = (centers < reach[0] - read.scale / 2) | (centers > reach[1] + read.scale / 2)
    span = max(seen.high - seen.low, 1e-30)
    place = np.clip((centers - seen.low) / span * BARS, 0, BARS - 1).astype(np.int64)
    counts = np.bincount(place, weights=seen.counts, minlength=BARS).astype(np.int64)
    return {
        "tensor": seen.name,
        "low": seen.low,
        "high": seen.high,
        "range_low": float(reach[0]),
        "range_high": float(reach[1]),
        "clipped_ratio": float(seen.counts[beyond].sum() / total),
        "histogram": counts.tolist(),
    }


def weight_facts(node: ir.Node, how: Rounding) -> dict[str, Any]:
    """Shape, width in bits, the SNR of rounding, and how unlike the channels are (largest limit over the median)."""
    weight = constant(node.inputs[1])
    assert weight is not None
    axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else weight.ndim - 1
    limits = np.abs(weight).max(axis=tuple(i for i in range(weight.ndim) if i != axis))
    return {
        "shape": list(weight.shape),
        "bits": how.weight_bits,
        "snr_db": snr_db(weight, rounded_weight(node, how)),
        "channel_spread": float(limits.max() / max(float(np.median(limits)), 1e-12)),
    }
