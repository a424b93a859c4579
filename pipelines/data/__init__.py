"""From a user's data to arrays, and a saved model back to predictions."""
