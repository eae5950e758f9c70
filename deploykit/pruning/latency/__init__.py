"""Pruning towards a latency: a table of measured layer times, and the search over it."""
