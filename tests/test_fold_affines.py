"""exporters/fold: affines (cases follow)."""
