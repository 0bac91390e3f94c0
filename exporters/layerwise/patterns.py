"""Shell patterns over a node's label (its name, else its first output) and the path of the PyTorch module that it
came from: what `--exclude` means.

Test: tests/test_placement.py.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

import onnx

from exporters.graph import label, own_module


def names_in(model: onnx.ModelProto) -> list[str]:
    """Every label and module path of `model` that a pattern could mean."""
    return [name for node in model.graph.node for name in (label(node), own_module(node)) if name]


def matches(pattern: str, names: Iterable[str]) -> bool:
    """Whether the shell `pattern` means one of `names`."""
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def excluding(node: onnx.NodeProto, patterns: Sequence[str]) -> str | None:
    """The first of the shell `patterns` that the label or the module path of `node` matches."""
    names = [name for name in (label(node), own_module(node)) if name]
    return next((pattern for pattern in patterns if matches(pattern, names)), None)
