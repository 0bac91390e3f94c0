"""Which graph is shipped: candidates made, judged on images, raced on this machine. Behind `quantize` and `build`."""
