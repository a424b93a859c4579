"""A run's folder on disk: tables, checkpoints, lock and mirror."""
