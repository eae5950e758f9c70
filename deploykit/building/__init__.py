"""Engine files for each target: from ONNX to what a runner loads."""
