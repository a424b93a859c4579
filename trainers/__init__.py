"""What a trial trains: batch-norm networks in plain NumPy."""
