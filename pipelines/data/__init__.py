"""From a user's data to arrays, and from a saved model to predictions."""
