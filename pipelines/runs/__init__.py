"""Starting, resuming, repairing and repeating runs."""
