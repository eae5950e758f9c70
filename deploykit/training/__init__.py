"""The one training loop, used by train, distill and QAT, and what it is made of.

The submodules import torch; import them inside functions.
"""
