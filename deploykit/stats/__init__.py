"""Intervals and tests of measured numbers: numpy and scipy only."""
