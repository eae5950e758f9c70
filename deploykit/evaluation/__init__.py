"""Judging answers from arrays alone: accuracy, agreement, parity, where two networks part. No torch, no engine."""
