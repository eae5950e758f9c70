"""Accuracy, agreement and parity, from saved logits and tensors: numpy only."""
