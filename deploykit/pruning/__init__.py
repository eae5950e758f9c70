"""Pruning: the graph of coupled channels, what they are worth, how many stay, and the surgery.

Importing a module of this package imports torch; import it inside functions.
"""
