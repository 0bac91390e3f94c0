"""Whether two models answer alike, and the first layer at which they do not. Behind `check` and `diff`."""
