"""The batch-norm network: layers, losses and back-propagation."""
