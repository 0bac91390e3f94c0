"""Post-training quantization: which nodes, which ranges, which grids, and the graph with them."""
