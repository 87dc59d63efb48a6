"""Versions of weights, from a checkpoint to the process that serves them."""
