"""Learning from teachers: losses as pure functions, teachers that answer as one, the student and its step.

The submodules import torch; import them inside functions.
"""
