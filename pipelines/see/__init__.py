"""Reading a run's tables and showing them in the terminal and on a page."""
