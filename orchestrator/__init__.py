"""The search: space, samplers, pruning, zooms, pools of workers and the log of a run."""
