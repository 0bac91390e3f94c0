"""Races that can be trusted, their gates and baselines. Behind `bench`."""
