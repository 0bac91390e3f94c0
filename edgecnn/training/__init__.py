"""Training, its interruption, and fine-tuning with the grids of the int8 graph."""
