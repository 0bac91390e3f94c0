"""Data that comes with the package; README.md here says from where and under which licence."""
