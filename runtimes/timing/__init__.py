"""Races: who takes part, the ratio with its interval, what disturbed it, and what was found."""
