"""ModelOpt's ONNX quantizer in an environment of its own: FLOAT CALIBRATION.npy OUTPUT."""

import sys

import numpy as np
from modelopt.onnx.quantization import quantize

source, pictures, output = sys.argv[1:]
quantize(
    source,
    quantize_mode="int8",
    calibration_data={"input": np.load(pictures)},
    calibration_method="max",
    calibration_eps=["cpu"],
    high_precision_dtype="fp32",
    output_path=output,
)
