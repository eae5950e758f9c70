"""ONNX Runtime's quantize_static, in an environment of its own: FLOAT CALIBRATION.npy OUTPUT METHOD.

METHOD: a calibration method, or MinMax with ``reduce_range`` (weights of 7 bits) or unsigned weights (``u8u8``).
"""

import sys
from pathlib import Path

import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

PERCENTILE_PICTURES = 16  # its histogram calibrators keep every activation of every picture in memory


class Reader(CalibrationDataReader):
    """Batches of eight, then None."""

    def __init__(self, pictures: np.ndarray) -> None:
        self.batches = iter(np.split(pictures, len(pictures) // 8))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"input": batch}


source, pictures, output, method = sys.argv[1:]
calibration = np.load(pictures)
if method == "Percentile":
    calibration = calibration[:PERCENTILE_PICTURES]
prepared = Path(output).with_suffix(".prepared.onnx")
quant_pre_process(source, str(prepared), skip_symbolic_shape=True)
quantize_static(
    str(prepared),
    output,
    Reader(calibration),
    quant_format=QuantFormat.QDQ,
    per_channel=True,
    activation_type=QuantType.QUInt8,
    weight_type=QuantType.QUInt8 if method == "u8u8" else QuantType.QInt8,
    reduce_range=method == "reduce_range",
    calibrate_method=CalibrationMethod.__members__.get(method, CalibrationMethod.MinMax),
)
prepared.unlink()
