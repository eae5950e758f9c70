"""Quantize and dequantize nodes: dialects of the engines, placement, emission, audit."""
