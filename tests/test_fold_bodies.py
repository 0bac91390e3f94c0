"""exporters/fold: bodies (cases follow)."""
