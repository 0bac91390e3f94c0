"""What parity needs to know: which rows of two lists belong together, and how near is near enough."""
