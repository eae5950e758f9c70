"""ONNX Runtime on CPU and CUDA. Imports no torch."""
