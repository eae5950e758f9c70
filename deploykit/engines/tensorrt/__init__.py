"""TensorRT 10 and 11 and TensorRT-RTX: build, open, audit. The only place that imports ``tensorrt`` or ``tensorrt_rtx``."""
