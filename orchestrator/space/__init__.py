"""The search space: hyperparameters with their domains, scales, conditions and constraints."""
