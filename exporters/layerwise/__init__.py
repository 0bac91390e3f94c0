"""Looking inside a graph: where a node came from, what it makes, how long it takes."""
