"""The fastest integer form of a network, found by racing candidates."""
