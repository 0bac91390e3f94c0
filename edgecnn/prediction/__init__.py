"""Using a bundle: predictions, answers, pictures. Behind `run` and `verify`."""
