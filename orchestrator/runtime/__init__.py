"""A session: the driver's loop, the workers, and what a worker does."""
