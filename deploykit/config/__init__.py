"""Frozen stage configurations and the recipe: plain data, checked when read."""
