"""The hyperparameters of a search: domains, scales, conditions and constraints."""
