"""How good a model is on labelled images, and how sure that is. Behind `evaluate`."""
