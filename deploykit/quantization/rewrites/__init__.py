"""Exact rewrites of a graph before it is quantized, one a file."""
