"""NNCF in an environment of its own: FLOAT CALIBRATION.npy OUTPUT, where .onnx is its ONNX way and .xml OpenVINO's."""

import sys

import nncf
import numpy as np

source, pictures, output = sys.argv[1:]
calibration = np.load(pictures)
if output.endswith(".xml"):
    import openvino

    float_model = openvino.convert_model(source)
    if float_model.inputs[0].partial_shape[0].is_dynamic:
        float_model.reshape([1, *calibration.shape[1:]])
    data = nncf.Dataset([one[None] for one in calibration])
    openvino.save_model(nncf.quantize(float_model, data, subset_size=len(calibration)), output, compress_to_fp16=False)
else:
    import onnx

    data = nncf.Dataset([{"input": one[None]} for one in calibration])
    onnx.save(nncf.quantize(onnx.load(source), data, subset_size=len(calibration)), output)
