"""Quantization-aware training: the exported graph in PyTorch with the dialect's own rounding."""
