"""torch → ONNX: two exporters, one clean-up, preprocessing in the graph, the checks before the numbers are compared."""
