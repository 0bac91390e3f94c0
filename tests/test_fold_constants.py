"""exporters/fold: constants (cases follow)."""
