"""From a name, a file or a checkpoint to a PyTorch network, and what is known of it."""
