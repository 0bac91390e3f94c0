"""exporters/fold: front (cases follow)."""
