"""A layer under a diff, by its names. Test: tests/test_diff.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """What a point stands for: the node's name, its operator, and the path of its PyTorch module."""

    node: str
    op: str
    module: str
