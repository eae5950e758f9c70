"""Honest latency: one worker process per variant, randomised interleaved blocks, paired ratios, raw samples."""
