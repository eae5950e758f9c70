"""OpenVINO on the CPU, its own runtime and not the ONNX Runtime provider. Imports no torch."""
