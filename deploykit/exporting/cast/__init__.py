"""ONNX graphs in fp16 and bf16, by measured ranges."""
