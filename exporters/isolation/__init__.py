"""Work on graphs that may be hostile, in child processes that may die."""
