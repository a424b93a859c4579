"""Batch-norm networks in plain NumPy, which the trials of a search train."""
